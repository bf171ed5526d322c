"""The two streams of QDM (arXiv 2503.12015, section 3.3): Upstream answers everywhere from coarse tokens, Downstream in active leaves from fine ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from qdm_med.models.qdm.attention import CrossAttention, NearbyCrossAttention, NearbySelfAttention, SelfAttention
from qdm_med.models.qdm.blocks import NORM_EPS, CrossAttentionBlock, DiTBlock, FinalLayer, Modulated, modulations
from qdm_med.models.qdm.embeddings import TimestepEmbedder, sincos_positions
from qdm_med.models.qdm.windows import WindowPlan


@dataclass(frozen=True)
class StreamShape:
    """Shape of one stream.

    Attributes:
        patch: Side of a patch in latent pixels.
        trained_size: Side of the maps in training; the position table is made for it.
        rescale: Whether other sizes span the extent of the trained one (the paper) or keep the distance between
            neighbouring patches (networks trained on crops of several sizes).
        hidden: Features of a token.
        depth: Number of blocks.
        heads: Attention heads.
        mlp_ratio: Width of an MLP in units of ``hidden``.
        window: Side of a downstream window in patches of this stream.
        reach: Upstream tokens around a window that are attended to; 0: all of the map.
    """

    patch: int
    trained_size: int
    rescale: bool
    hidden: int
    depth: int
    heads: int
    mlp_ratio: int
    window: int
    reach: int = 0


class PatchEmbedding(nn.Module):
    """Embedding of square patches of a map, each with its position; with a reach with its place in the window alone.

    Args:
        channels: Channels of the map.
        shape: Shape of the stream.
        normalise: Whether the embedded patch is normalised before its place is added (downstream).
    """

    positions: Tensor

    def __init__(self, channels: int, shape: StreamShape, *, normalise: bool) -> None:
        super().__init__()
        self.patch, self.rescale = shape.patch, shape.rescale
        self.window = shape.window if shape.reach else 0
        self.trained = shape.trained_size // shape.patch
        self.project = nn.Conv2d(channels, shape.hidden, shape.patch, stride=shape.patch)
        self.norm = nn.LayerNorm(shape.hidden, eps=NORM_EPS) if normalise else nn.Identity()
        positions = sincos_positions(self.trained, self.trained, shape.hidden)
        self.register_buffer("positions", positions, persistent=False)
        nn.init.xavier_uniform_(self.project.weight.flatten(1))

    def positions_for(self, rows: int, columns: int) -> Tensor:
        """Positions of a grid of any size, ``(rows, columns, hidden)``."""
        if self.window:
            own = self.positions[: self.window, : self.window]
            return own.repeat(-(-rows // self.window), -(-columns // self.window), 1)[:rows, :columns]
        if (rows, columns) == (self.trained, self.trained):
            return self.positions
        step = (self.trained / rows, self.trained / columns) if self.rescale else (1.0, 1.0)
        return sincos_positions(rows, columns, self.positions.shape[-1], step=step).to(self.positions)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, H / patch, W / patch, hidden)``."""
        tokens = self.norm(rearrange(self.project(x), "b d y x -> b y x d"))  # (B, H / patch, W / patch, hidden)
        return tokens + self.positions_for(*tokens.shape[1:3])

    def at(self, x: Tensor, places: Tensor) -> Tensor:
        """Embed some patches, and spend nothing on the others.

        Args:
            x: ``(B, C, H, W)``, best channels last.
            places: Numbers of the patches, counted image by image and row by row, any shape.

        Returns:
            ``(*places.shape, hidden)``.
        """
        rows, columns = x.shape[-2] // self.patch, x.shape[-1] // self.patch
        cut = rearrange(x, "b c (y py) (x px) -> b y py x px c", py=self.patch, px=self.patch)
        row, column = places // columns % rows, places % columns
        patches = cut[places // (rows * columns), row, :, column].flatten(-3)  # (..., patch * patch * C)
        tokens = F.linear(patches, rearrange(self.project.weight, "d c py px -> d (py px c)"), self.project.bias)
        if self.window:  # their few places: a table of the whole map would take longer than the patches
            return self.norm(tokens) + self.positions[row % self.window, column % self.window]
        return self.norm(tokens) + self.positions_for(rows, columns)[row, column]


def unpatch(patches: Tensor, patch: int) -> Tensor:
    """``(B, rows, columns, patch * patch * C)`` -> ``(B, C, rows * patch, columns * patch)``, channels last in memory."""
    return rearrange(patches, "b y x (py px c) -> b (y py) (x px) c", py=patch, px=patch).permute(0, 3, 1, 2)


class StreamModulation(NamedTuple):
    """Modulation of a stream at a timestep; ``B`` is 1 where all images are at the same timestep.

    Attributes:
        blocks: ``(B, parts * hidden)`` of each block.
        final: ``(B, 2 hidden)``.
    """

    blocks: tuple[Tensor, ...]
    final: Tensor


class Stream(nn.Module):
    """Common parts of both streams: patches are embedded, refined by blocks, and written out.

    Args:
        channels_in: Channels of the map.
        channels_out: Channels of the answer.
        shape: Shape of the stream.
        block: Builder of a block.
        normalise: Whether embedded patches are normalised.
    """

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        shape: StreamShape,
        block: Callable[[], Modulated],
        *,
        normalise: bool,
    ) -> None:
        super().__init__()
        self.embed = PatchEmbedding(channels_in, shape, normalise=normalise)
        self.time = TimestepEmbedder(shape.hidden)
        self.blocks = nn.ModuleList(block() for _ in range(shape.depth))
        self.final = FinalLayer(shape.hidden, shape.patch, channels_out)

    def read_step(self, t: Tensor) -> StreamModulation:
        """Compute the modulation of every layer at ``(B,)`` timesteps."""
        condition = self.time(t)
        return StreamModulation(modulations(self.blocks, condition), self.final.modulate_by(condition))


class Upstream(Stream):
    """DiT over coarse patches of the whole map: a coarse answer everywhere, and the context for the downstream."""

    def __init__(self, channels_in: int, channels_out: int, shape: StreamShape) -> None:
        def block() -> DiTBlock:
            attention = (
                NearbySelfAttention(shape.hidden, shape.heads, shape.window, shape.reach)
                if shape.reach
                else SelfAttention(shape.hidden, shape.heads)
            )
            return DiTBlock(shape.hidden, shape.heads, shape.mlp_ratio, attention)

        super().__init__(channels_in, channels_out, shape, block, normalise=False)

    def forward(self, x: Tensor, step: StreamModulation) -> tuple[Tensor, Tensor]:
        """Answer coarsely over the whole map.

        Args:
            x: ``(B, C_in, H, W)``, sides multiples of the patch.
            step: From :meth:`read_step`.

        Returns:
            The coarse answer ``(B, C_out, H, W)`` and the context tokens ``(B, H / patch, W / patch, hidden)``.
        """
        tokens = self.embed(x)  # (B, H / patch, W / patch, hidden)
        for block, modulation in zip(self.blocks, step.blocks, strict=True):
            tokens = block(tokens, modulation)
        return unpatch(self.final(tokens, step.final[:, None, None]), self.embed.patch), tokens


class NoUpstream(nn.Module):
    """Substitute for the upstream: its answer is zero, its context one learned token.

    Args:
        channels_out: Channels of the answer.
        hidden: Features of the token.
    """

    def __init__(self, channels_out: int, hidden: int) -> None:
        super().__init__()
        self._channels = channels_out
        self.context = nn.Parameter(torch.zeros(1, 1, hidden))

    def read_step(self, t: Tensor) -> StreamModulation:
        """Return nothing: no layer needs the timestep."""
        return StreamModulation((), t.new_zeros(0, dtype=torch.float32))

    def forward(self, x: Tensor, step: StreamModulation) -> tuple[Tensor, Tensor]:
        """Give zeros ``(B, C_out, H, W)`` and the token of each image; arguments as for :meth:`Upstream.forward`."""
        nothing = x.new_zeros(len(x), self._channels, *x.shape[-2:])
        # A sum and no view: counters of operations follow what modules return, and a view of a weight has no history.
        return nothing, self.context[:, None] + x.new_zeros(len(x), 1, 1, 1)


class Downstream(Stream):
    """Cross-attention blocks over fine patches, in windows, only where the quadtree is active.

    Args:
        channels_in: Channels of the map.
        channels_out: Channels of the answer.
        shape: Shape of the stream.
        upstream_window: Side of a window in upstream tokens.
    """

    def __init__(self, channels_in: int, channels_out: int, shape: StreamShape, upstream_window: int) -> None:
        def to_context() -> CrossAttention:
            if not shape.reach:
                return CrossAttention(shape.hidden, shape.heads)
            return NearbyCrossAttention(shape.hidden, shape.heads, shape.window**2, upstream_window, shape.reach)

        def block() -> CrossAttentionBlock:
            return CrossAttentionBlock(shape.hidden, shape.heads, shape.mlp_ratio, to_context)

        super().__init__(channels_in, channels_out, shape, block, normalise=True)

    def forward(self, x: Tensor, step: StreamModulation, context: Tensor, plan: WindowPlan) -> Tensor:
        """Refine the active windows.

        Args:
            x: ``(B, C_in, H, W)``, sides multiples of patch times window.
            step: From :meth:`read_step`.
            context: ``(B, rows, columns, hidden)`` upstream tokens.
            plan: The windows to compute.

        Returns:
            ``(B, C_out, H, W)``, zero beside the active leaves.
        """
        keys_values = [block.context_attention.keys_values(context) for block in self._blocks]
        # A patch is then a few runs of memory: gathering channel by channel would take longer than embedding everything.
        x = x.contiguous(memory_format=torch.channels_last)
        patches = []
        for chunk in plan.chunks:
            rows = self.embed.at(x, chunk.places)  # (rows, tokens of a row, hidden)
            for block, modulation, known in zip(self._blocks, step.blocks, keys_values, strict=True):
                after = chunk.narrowed if block is self._blocks[-1] else chunk
                rows = block(rows, modulation, known, chunk, after)
            patches.append(self.final(rows, chunk.narrowed.per_row(step.final)))
        return unpatch(plan.scatter(torch.cat(patches)), self.embed.patch)  # (B, C_out, H, W)

    @property
    def _blocks(self) -> Sequence[CrossAttentionBlock]:
        return cast("Sequence[CrossAttentionBlock]", self.blocks)
