"""Attention of the two streams: over a whole map, within windows, to the upstream's tokens, and the same among nearby tokens only."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from qdm_med.models.qdm.windows import Nearby, WindowPlan, nearby, to_windows

MOST_WINDOWS = 2**14
"""Windows that are attended to at once: PyTorch's attention on CUDA takes at most 65,535 rows in some of its versions."""


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Multi-head scaled dot-product attention.

    Args:
        query: ``(N, Lq, D)``.
        key: ``(N, Lk, D)``.
        value: ``(N, Lk, D)``.
        heads: Divides ``D``.
        mask: Broadcasts to ``(N, heads, Lq, Lk)``: bool, True where a key may be attended to, at least one True a query; or
            numbers that are added to the scores.

    Returns:
        ``(N, Lq, D)``.
    """
    q, k, v = (rearrange(x, "n l (heads d) -> n heads l d", heads=heads) for x in (query, key, value))
    return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n heads l d -> n l (heads d)")


def attend_nearby(query: Tensor, around: Nearby, place_bias: Tensor) -> Tensor:
    """Multi-head attention of the tokens of windows to those in and around them.

    Args:
        query: ``(N, Lq, D)``, tokens of each window.
        around: Of tokens in and around them that are keys and values side by side, ``(N, Lk, 2 D)``.
        place_bias: ``(heads, Lq, Lk)``, added to the scores: what each place around a window means to each place within.

    Returns:
        ``(N, Lq, D)``.
    """
    parts = zip(*(torch.split(x, MOST_WINDOWS) for x in (query, around.tokens, around.inside)), strict=True)
    attended = [_attend_nearby(own, known, inside, place_bias) for own, known, inside in parts]
    return torch.cat(attended) if len(attended) > 1 else attended[0]


def _attend_nearby(query: Tensor, keys_values: Tensor, inside: Tensor, place_bias: Tensor) -> Tensor:
    keys, values = keys_values.chunk(2, dim=-1)
    bias = place_bias.to(query.dtype).masked_fill(~inside[:, None, None, :], float("-inf"))  # (N, heads, Lq, Lk)
    return attend(query, keys, values, len(place_bias), bias)


class SelfAttention(nn.Module):
    """Multi-head self-attention among all tokens of a map."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` -> ``(B, rows, columns, D)``."""
        query, key, value = self.qkv(x).flatten(1, 2).chunk(3, dim=-1)
        return self.out(attend(query, key, value, self.heads)).reshape(x.shape)


class WindowAttention(SelfAttention):
    """Multi-head self-attention among the tokens of each window of a plan."""

    def forward(self, x: Tensor, plan: WindowPlan, after: WindowPlan) -> Tensor:  # type: ignore[override]
        """Attend within each window.

        Args:
            x: Rows of ``plan``, ``(R, L, D)``.
            plan: Which rows are given.
            after: Which rows are wanted: the same, or those of the narrowed plan.

        Returns:
            Rows of ``after``.
        """
        projected = self.qkv(x)
        query, key, value = (plan.widen(projected) if plan.leaf_mode else projected).chunk(3, dim=-1)
        attended = attend(query, key, value, self.heads, plan.leaves[:, None, None, :] if plan.leaf_mode else None)
        return self.out(plan.narrow(attended) if after.leaf_mode else attended)


class NearbySelfAttention(SelfAttention):
    """Multi-head self-attention of a map's tokens, each to those in and around its window.

    Args:
        hidden: Features of a token.
        heads: Attention heads.
        side: Tokens along the side of a window.
        reach: Tokens on every side of it that are attended to.
    """

    def __init__(self, hidden: int, heads: int, side: int, reach: int) -> None:
        super().__init__(hidden, heads)
        self.side, self.reach = side, reach
        self.place_bias = nn.Parameter(torch.zeros(heads, side**2, (side + 2 * reach) ** 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, rows, columns, D)``, whole windows -> ``(B, rows, columns, D)``."""
        query, known = self.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
        around = nearby(known, self.side, self.reach)
        own = to_windows(query, self.side).flatten(0, 1)  # (B * windows, side * side, D)
        attended = attend_nearby(own, around, self.place_bias)
        pattern = "(b y x) (wy wx) d -> b (y wy) (x wx) d"
        return self.out(rearrange(attended, pattern, b=len(x), y=x.shape[1] // self.side, wy=self.side))


class CrossAttention(nn.Module):
    """Multi-head attention from tokens to a context whose keys and values are projected once a block."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(hidden, hidden)
        self.kv = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def keys_values(self, context: Tensor) -> Tensor:
        """Project ``(B, rows, columns, D)`` context tokens to keys and values side by side, once for all that attend."""
        projected: Tensor = self.kv(context)
        return projected

    def forward(self, x: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend from rows of tokens to the context of the image that each row belongs to.

        Args:
            x: Rows of ``plan``, ``(R, L, D)``.
            keys_values: ``(B, rows, columns, 2 D)``, from :meth:`keys_values`.
            plan: Which rows are given.
        """
        refined: Tensor = self.out(self.attend_to(self.q(x), keys_values, plan))
        return refined

    def attend_to(self, query: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend to all tokens of the image, ``(R, L, D)`` -> ``(R, L, D)``; arguments as for :meth:`forward`."""
        # An accelerator takes longer to start the images one by one than to compute some rows in vain.
        ask = self.image_by_image if query.device.type == "cpu" else self.all_images
        return ask(query, keys_values.flatten(1, 2), plan)

    def all_images(self, query: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend in one go to ``(B, C, 2 D)``, ``(R, L, D)`` -> ``(R, L, D)``; every image costs as much as the one of most rows."""
        keys, values = keys_values.chunk(2, dim=-1)
        return plan.from_images(attend(plan.by_image(query), keys, values, self.heads), query.shape[1])

    def image_by_image(self, query: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend image by image to ``(B, C, 2 D)``, ``(R, L, D)`` -> ``(R, L, D)``.

        Attention is independent from query to query: the rows of an image make one long query, so that its keys and values
        are used by all of them without a copy.
        """
        keys, values = keys_values.chunk(2, dim=-1)
        attended = [
            attend(own.reshape(1, -1, own.shape[-1]), keys[image : image + 1], values[image : image + 1], self.heads)
            for image, own in enumerate(torch.split(query, list(plan.rows_of)))
            if len(own)
        ]
        return torch.cat(attended, dim=1).reshape(query.shape)


class NearbyCrossAttention(CrossAttention):
    """Multi-head attention from the tokens of a window to the context tokens in and around it.

    Args:
        hidden: Features of a token.
        heads: Attention heads.
        tokens: Tokens of a window.
        side: Context tokens along the side of a window.
        reach: Context tokens on every side of it that are attended to.
    """

    def __init__(self, hidden: int, heads: int, tokens: int, side: int, reach: int) -> None:
        super().__init__(hidden, heads)
        self.side, self.reach = side, reach
        self.place_bias = nn.Parameter(torch.zeros(heads, tokens, (side + 2 * reach) ** 2))

    def attend_to(self, query: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend window by window, ``(R, L, D)`` -> ``(R, L, D)``."""
        around = nearby(keys_values, self.side, self.reach, plan.window_index)
        own = plan.widen(query) if plan.leaf_mode else query  # (N, tokens, D)
        attended = attend_nearby(own, around, self.place_bias)
        return plan.narrow(attended) if plan.leaf_mode else attended
