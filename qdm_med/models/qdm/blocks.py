"""Transformer blocks of the two streams (arXiv 2503.12015, Figure 6): adaLN-Zero around attention and MLP.

The blocks are functions of tokens and of their modulation, which each makes of the timestep alone and which can therefore be
worked out once for many tokens, slices and samples. Which tokens there are is the streams' business.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from qdm_med.models.qdm.windows import Nearby, WindowPlan, nearby, to_windows

NORM_EPS = 1e-6


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shift and scale normalised tokens; ``shift`` and ``scale`` broadcast against ``x``."""
    return torch.addcmul(shift, x, 1 + scale)


def layer_norm(x: Tensor) -> Tensor:
    """Normalise the last dimension, without parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=NORM_EPS)


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """Build a linear layer that starts as zero: the Zero of adaLN-Zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def modulation(hidden: int, parts: int) -> nn.Sequential:
    """Map a ``(B, hidden)`` conditioning to ``parts`` modulation vectors, ``(B, parts * hidden)``."""
    return nn.Sequential(nn.SiLU(), zero_linear(hidden, parts * hidden))


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, key_mask: Tensor | None = None) -> Tensor:
    """Multi-head scaled dot-product attention.

    Args:
        query: ``(N, Lq, D)``.
        key: ``(N, Lk, D)``.
        value: ``(N, Lk, D)``.
        heads: Divides ``D``.
        key_mask: ``(N, Lk)`` bool, True where a key may be attended to; at least one True a row.

    Returns:
        ``(N, Lq, D)``.
    """
    q, k, v = (rearrange(x, "n l (heads d) -> n heads l d", heads=heads) for x in (query, key, value))
    mask = None if key_mask is None else key_mask[:, None, None, :]
    return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=mask), "n heads l d -> n l (heads d)")


def attend_nearby(query: Tensor, around: Nearby, place: Tensor) -> Tensor:
    """Multi-head attention of the tokens of windows to those in and around them.

    Args:
        query: ``(N, Lq, D)``, tokens of each window.
        around: ``(N, Lk, 2 D)`` their surroundings' keys and values side by side.
        place: ``(heads, Lq, Lk)``, added to the scores: what each place around a window means to each place within.

    Returns:
        ``(N, Lq, D)``.
    """
    bias = place.to(query.dtype).masked_fill(~around.inside[:, None, None, :], float("-inf"))  # (N, heads, Lq, Lk)
    q, k, v = (
        rearrange(x, "n l (heads d) -> n heads l d", heads=len(place)) for x in (query, *around.tokens.chunk(2, dim=-1))
    )
    return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=bias), "n heads l d -> n l (heads d)")


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
        attended = attend(query, key, value, self.heads, plan.leaves if plan.leaf_mode else None)
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
        self.place = nn.Parameter(torch.zeros(heads, side**2, (side + 2 * reach) ** 2))

    def forward(self, x: Tensor) -> Tensor:
        """``(B, rows, columns, D)``, whole windows -> ``(B, rows, columns, D)``."""
        query, known = self.qkv(x).split((x.shape[-1], 2 * x.shape[-1]), dim=-1)
        around = nearby(known, self.side, self.reach)
        own = to_windows(query, self.side).flatten(0, 1)  # (B * windows, side * side, D)
        attended = attend_nearby(own, around, self.place)
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
        self.place = nn.Parameter(torch.zeros(heads, tokens, (side + 2 * reach) ** 2))

    def attend_to(self, query: Tensor, keys_values: Tensor, plan: WindowPlan) -> Tensor:
        """Attend window by window, ``(R, L, D)`` -> ``(R, L, D)``."""
        around = nearby(keys_values, self.side, self.reach, plan.window_index)
        own = plan.widen(query) if plan.leaf_mode else query  # (N, tokens, D)
        attended = attend_nearby(own, around, self.place)
        return plan.narrow(attended) if plan.leaf_mode else attended


def mlp(hidden: int, ratio: int) -> nn.Sequential:
    """Two layers with tanh-GELU between them."""
    return nn.Sequential(
        nn.Linear(hidden, ratio * hidden), nn.GELU(approximate="tanh"), nn.Linear(ratio * hidden, hidden)
    )


class Modulated(nn.Module):
    """A layer whose ``modulation`` tells it the timestep: factors and summands of its features."""

    modulation: nn.Module

    def modulate_by(self, condition: Tensor) -> Tensor:
        """Compute from a ``(B, D)`` conditioning the ``(B, parts * features)`` that :meth:`forward` takes."""
        vectors: Tensor = self.modulation(condition)
        return vectors


def modulations(layers: nn.ModuleList, condition: Tensor) -> tuple[Tensor, ...]:
    """Compute the modulation of some :class:`Modulated` layers from a ``(B, D)`` conditioning."""
    return tuple(layer.modulate_by(condition) for layer in cast("Iterable[Modulated]", layers))


class DiTBlock(Modulated):
    """Self-attention and MLP, each gated by the conditioning (DiT's adaLN-Zero block)."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int, attention: SelfAttention) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp(hidden, mlp_ratio)
        self.modulation = modulation(hidden, 6)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` tokens and their modulation, ``(B, 6 D)`` or ``(1, 6 D)`` -> ``(B, rows, columns, D)``."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation[:, None, None].chunk(6, dim=-1)
        x = x + gate1 * self.attention(modulate(layer_norm(x), shift1, scale1))
        return x + gate2 * self.mlp(modulate(layer_norm(x), shift2, scale2))


class CrossAttentionBlock(Modulated):
    """Attention inside a window, MLP, attention to the upstream tokens, MLP (arXiv 2503.12015, Figure 6)."""

    def __init__(self, hidden: int, heads: int, mlp_ratio: int, context_attention: CrossAttention) -> None:
        super().__init__()
        self.window_attention = WindowAttention(hidden, heads)
        self.window_mlp = mlp(hidden, mlp_ratio)
        self.window_modulation = modulation(hidden, 6)
        self.context_attention = context_attention
        self.context_mlp = mlp(hidden, mlp_ratio)
        self.context_modulation = modulation(hidden, 6)

    def modulate_by(self, condition: Tensor) -> Tensor:
        """Compute from a ``(B, D)`` conditioning ``(B, 12 D)`` modulation, the window's and then the context's."""
        return torch.cat([self.window_modulation(condition), self.context_modulation(condition)], dim=-1)

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        keys_values: Tensor,
        plan: WindowPlan,
        after: WindowPlan,
    ) -> Tensor:
        """Refine the tokens of windows.

        Tokens meet in the window attention only. What comes behind it need not be computed for tokens that no later
        block will attend to: with a narrowed ``after`` the last block leaves out those of inactive leaves.

        Args:
            x: Rows of ``plan``, ``(R, L, D)``.
            modulation: ``(B, 12 D)`` of each image, or ``(1, 12 D)`` of all.
            keys_values: Upstream tokens of each image, projected by ``context_attention``.
            plan: Which rows are given.
            after: Which rows are wanted: the same, or those of the narrowed plan.

        Returns:
            Rows of ``after``.
        """
        window, context = modulation.chunk(2, dim=-1)
        shift1, scale1 = plan.per_row(window).chunk(6, dim=-1)[:2]
        gate1, shift2, scale2, gate2 = after.per_row(window).chunk(6, dim=-1)[2:]
        attended = self.window_attention(modulate(layer_norm(x), shift1, scale1), plan, after)
        kept = plan.narrow(x) if after.leaf_mode and not plan.leaf_mode else x
        x = kept + gate1 * attended
        x = x + gate2 * self.window_mlp(modulate(layer_norm(x), shift2, scale2))
        shift1, scale1, gate1, shift2, scale2, gate2 = after.per_row(context).chunk(6, dim=-1)
        x = x + gate1 * self.context_attention(modulate(layer_norm(x), shift1, scale1), keys_values, after)
        return x + gate2 * self.context_mlp(modulate(layer_norm(x), shift2, scale2))


class FinalLayer(Modulated):
    """Modulated normalisation and a linear map from a token to its patch, zero at the start."""

    def __init__(self, hidden: int, patch: int, channels: int) -> None:
        super().__init__()
        self.modulation = modulation(hidden, 2)
        self.linear = zero_linear(hidden, patch * patch * channels)

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``(N, L, D)`` tokens and their modulation, ``(N or 1, 1, 2 D)`` -> ``(N, L, patch * patch * channels)``."""
        shift, scale = modulation.chunk(2, dim=-1)
        patches: Tensor = self.linear(modulate(layer_norm(x), shift, scale))
        return patches
