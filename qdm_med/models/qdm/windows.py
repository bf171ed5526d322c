"""Plan of the windows and tokens to compute, and the way of tokens between grid and computation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def to_windows(grid: Tensor, window: int) -> Tensor:
    """``(B, H, W, ...)`` -> ``(B, windows, window * window, ...)``, windows and tokens counted row by row."""
    return rearrange(grid, "b (y wy) (x wx) ... -> b (y x) (wy wx) ...", wy=window, wx=window)


class Nearby(NamedTuple):
    """Coarse tokens in and around some windows.

    Attributes:
        tokens: ``(N, K, D)``, those of each window, row by row.
        inside: ``(N, K)`` bool, which of them lie on the map.
    """

    tokens: Tensor
    inside: Tensor


def nearby(grid: Tensor, side: int, reach: int, windows: Tensor | None = None) -> Nearby:
    """Collect the tokens of windows and those up to ``reach`` tokens around them.

    Args:
        grid: ``(B, rows, columns, D)``, whole windows.
        side: Tokens along the side of a window.
        reach: Tokens on every side of it.
        windows: ``(N,)`` int64 numbers of the windows, counted image by image and row by row; ``None``: all.
    """
    images, rows, columns = grid.shape[:3]
    across, down = columns // side, rows // side
    chosen = torch.arange(images * down * across, device=grid.device) if windows is None else windows
    step = torch.arange(-reach, side + reach, device=grid.device)
    row = (chosen // across % down * side)[:, None, None] + step[:, None]  # (N, side + 2 reach, 1)
    column = (chosen % across * side)[:, None, None] + step  # (N, 1, side + 2 reach)
    inside = (row >= 0) & (row < rows) & (column >= 0) & (column < columns)  # (N, side + 2 reach, side + 2 reach)
    place = (chosen // (across * down))[:, None, None] * rows + row.clamp(0, rows - 1)
    place = (place * columns + column.clamp(0, columns - 1)).flatten(1)  # (N, K)
    tokens = grid.reshape(-1, grid.shape[-1]).index_select(0, place.flatten())
    return Nearby(tokens.reshape(*place.shape, -1), inside.flatten(1))


@dataclass(frozen=True)
class WindowPlan:
    """Computation that a mask asks for, planned once and used by every block of every step.

    Tokens are computed in rows. In window mode a row is a whole window that contains an active token. In leaf mode a row
    is one active token: nothing is computed for the others, and the tokens of a window meet in its attention only. All
    counts are Python integers and all places are indices, so that the steps of the sampler never wait for the device.

    Attributes:
        token_mask: ``(B, rows, columns)`` bool, the mask itself on the (padded) token grid.
        window: Side of a window in tokens.
        leaf_mode: Whether rows are active tokens.
        leaves: ``(N, tokens)`` bool, active tokens of each of the N active windows.
        window_index: ``(N,)`` place of each active window among the ``B * windows`` of the grid.
        leaf_index: ``(K,)`` place of each active token among the ``N * tokens`` of the active windows.
        leaves_in: Number of active tokens of each of the N active windows.
        windows_of: Number of active windows of each of the B images.
    """

    CHUNK: ClassVar[int] = 64
    """Most windows computed at once: bounds memory, changes nothing (arXiv 2503.12015, section 3)."""

    ACCELERATED_CHUNK: ClassVar[int] = 1024
    """The same on an accelerator, which would idle between chunks of the processor's size."""

    token_mask: Tensor
    window: int
    leaf_mode: bool
    leaves: Tensor
    window_index: Tensor
    leaf_index: Tensor
    leaves_in: tuple[int, ...]
    windows_of: tuple[int, ...]

    @classmethod
    def from_mask(cls, token_mask: Tensor, *, window: int, leaf_mode: bool) -> WindowPlan:
        """Plan the computation of a mask.

        Args:
            token_mask: ``(B, rows, columns)`` bool; rows and columns multiples of ``window``.
            window: Side of a window in tokens.
            leaf_mode: Whether active tokens alone are computed, instead of the windows that contain one.
        """
        windows = to_windows(token_mask, window)  # (B, windows, tokens)
        active = windows.any(dim=-1)
        leaves = windows[active]
        return cls(
            token_mask,
            window,
            leaf_mode,
            leaves,
            window_index=active.flatten().nonzero()[:, 0],
            leaf_index=leaves.flatten().nonzero()[:, 0],
            leaves_in=tuple(leaves.sum(dim=1).tolist()),
            windows_of=tuple(active.sum(dim=1).tolist()),
        )

    @classmethod
    def from_leaves(cls, leaves: Tensor, *, window: int, leaf_mode: bool) -> WindowPlan:
        """Plan the computation of leaves on a grid of any size, padded to whole windows with inactive ones.

        Args:
            leaves: ``(B, rows, columns)`` bool.
            window: Side of a window in tokens.
            leaf_mode: As for :meth:`from_mask`.
        """
        rows, columns = leaves.shape[-2:]
        padded = F.pad(leaves, (0, -columns % window, 0, -rows % window), value=False)
        return cls.from_mask(padded, window=window, leaf_mode=leaf_mode)

    def to(self, device: torch.device) -> WindowPlan:
        """The same plan for grids on another device."""
        return replace(
            self,
            token_mask=self.token_mask.to(device),
            leaves=self.leaves.to(device),
            window_index=self.window_index.to(device),
            leaf_index=self.leaf_index.to(device),
        )

    @property
    def window_count(self) -> int:
        """Number of windows that contain an active token, over all images."""
        return sum(self.windows_of)

    @property
    def windows_in_all(self) -> int:
        """Number of windows of the grid, over all images."""
        return self.token_mask.numel() // self.window**2

    @cached_property
    def leaves_of(self) -> tuple[int, ...]:
        """Number of active tokens of each of the B images."""
        left = iter(self.leaves_in)
        return tuple(sum(itertools.islice(left, windows)) for windows in self.windows_of)

    @property
    def rows_of(self) -> tuple[int, ...]:
        """Number of rows of each of the B images; the rows of image 0 come first."""
        return self.leaves_of if self.leaf_mode else self.windows_of

    @cached_property
    def narrowed(self) -> WindowPlan:
        """The same mask in leaf mode: one active token a row."""
        return replace(self, leaf_mode=True)

    @cached_property
    def chunks(self) -> tuple[WindowPlan, ...]:
        """Plans of at most ``CHUNK`` windows each, in order; together they are this one."""
        most = self.CHUNK if self.token_mask.device.type == "cpu" else self.ACCELERATED_CHUNK
        if self.window_count <= most:
            return (self,)
        image_of = [image for image, count in enumerate(self.windows_of) for _ in range(count)]
        leaf_ends = [0, *itertools.accumulate(self.leaves_in)]
        parts = (slice(start, start + most) for start in range(0, self.window_count, most))
        return tuple(
            replace(
                self,
                leaves=self.leaves[part],
                window_index=self.window_index[part],
                leaf_index=self.leaf_index[leaf_ends[part.start] : leaf_ends[min(part.stop, self.window_count)]]
                - part.start * self.leaves.shape[1],
                leaves_in=self.leaves_in[part],
                windows_of=tuple(image_of[part].count(image) for image in range(len(self.windows_of))),
            )
            for part in parts
        )

    def per_row(self, values: Tensor) -> Tensor:
        """Spread ``(B, D)`` values of the images over rows: ``(R, 1, D)``, or ``(1, 1, D)`` where one image owns all."""
        if len(values) == 1:
            return values[:, None]
        return values.index_select(0, self._image_of_row)[:, None]

    @cached_property
    def _image_of_row(self) -> Tensor:
        """``(R,)`` int64: the image that each row belongs to."""
        counts = torch.tensor(self.rows_of, device="cpu")
        index = torch.arange(len(counts), device="cpu").repeat_interleave(counts)
        return index.to(self.token_mask.device, non_blocking=True)

    def by_image(self, rows: Tensor) -> Tensor:
        """``(R, L, D)`` -> ``(B, M L, D)``: the rows of each image side by side, M as many as the fullest has, others zero."""
        slots = rows.new_zeros((len(self.rows_of) * max(self.rows_of), *rows.shape[1:]))
        return slots.index_copy(0, self._slot_of_row, rows).reshape(len(self.rows_of), -1, rows.shape[-1])

    def from_images(self, images: Tensor, tokens: int) -> Tensor:
        """``(B, M L, D)`` -> ``(R, L, D)``: undo :meth:`by_image`; ``tokens`` is L."""
        return images.reshape(-1, tokens, images.shape[-1]).index_select(0, self._slot_of_row)

    @cached_property
    def _slot_of_row(self) -> Tensor:
        """``(R,)`` int64 place of each row where every image has as many as the fullest."""
        most = max(self.rows_of)
        slots = [image * most + row for image, count in enumerate(self.rows_of) for row in range(count)]
        return torch.tensor(slots).to(self.token_mask.device, non_blocking=True)

    def gather(self, grid: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` -> ``(R, L, D)``: the rows that are computed; L is 1 in leaf mode."""
        windows = to_windows(grid, self.window).flatten(0, 1).index_select(0, self.window_index)
        return self.narrow(windows) if self.leaf_mode else windows

    @cached_property
    def places(self) -> Tensor:
        """``(R, L)`` int64 numbers of the tokens that are computed, counted image by image and row by row."""
        numbers = torch.arange(self.token_mask.numel(), device=self.token_mask.device)
        return self.gather(numbers.reshape(*self.token_mask.shape, 1))[..., 0]

    def scatter(self, leaves: Tensor) -> Tensor:
        """``(K, 1, D)`` -> ``(B, rows, columns, D)``, zero beside the active leaves."""
        grid = leaves.new_zeros((self.token_mask.numel(), leaves.shape[-1]))
        grid.index_copy_(0, self.narrowed.places[:, 0], leaves[:, 0])
        return grid.reshape(*self.token_mask.shape, leaves.shape[-1])

    def widen(self, leaves: Tensor) -> Tensor:
        """``(K, 1, D)`` -> ``(N, tokens, D)``: active tokens in their windows, anything finite where there is none."""
        return leaves[:, 0].index_select(0, self._row_of_token).reshape(*self.leaves.shape, leaves.shape[-1])

    @cached_property
    def _row_of_token(self) -> Tensor:
        """``(N * tokens,)`` int64: the row of each active token, and some row for the others.

        Copying rows that nobody will look at takes a tenth of the time of filling with zeros first.
        """
        return (self.leaves.flatten().cumsum(0) - 1).clamp_(min=0)

    def narrow(self, windows: Tensor) -> Tensor:
        """``(N, tokens, D)`` -> ``(K, 1, D)``: undo :meth:`widen`."""
        return windows.flatten(0, 1).index_select(0, self.leaf_index)[:, None]
