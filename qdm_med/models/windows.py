"""Which windows and tokens of the downstream grid are computed, and how tokens move between grid and computation."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import torch
from einops import rearrange
from torch import Tensor


def to_windows(grid: Tensor, window: int) -> Tensor:
    """``(B, H, W, ...)`` -> ``(B, windows, window * window, ...)``, windows and tokens counted row by row."""
    return rearrange(grid, "b (y wy) (x wx) ... -> b (y x) (wy wx) ...", wy=window, wx=window)


def from_windows(windows: Tensor, window: int, rows: int, columns: int) -> Tensor:
    """Undo :func:`to_windows` for a grid of ``rows`` by ``columns`` tokens."""
    return rearrange(
        windows,
        "b (y x) (wy wx) ... -> b (y wy) (x wx) ...",
        y=rows // window,
        x=columns // window,
        wy=window,
        wx=window,
    )


@dataclass(frozen=True)
class WindowPlan:
    """What a mask asks for, worked out once and used by every block of every step.

    Tokens are computed in rows. In window mode a row is a whole window that contains an active token. In leaf mode a row
    is one active token: nothing is computed for the others, and the tokens of a window meet in its attention only.

    Attributes:
        active: ``(B, windows)`` bool, True where a window contains an active token.
        image_of: ``(R,)`` image that each row belongs to, ascending.
        rows_of: Number of rows of each of the B images; Python integers, so that the steps of the sampler need not
            wait for the device.
        token_mask: ``(B, rows, columns)`` bool, the mask itself on the (padded) token grid.
        window: Side of a window in tokens.
        leaves: ``(N, tokens)`` bool, active tokens of each of the N active windows in leaf mode; ``None`` in window mode.
    """

    active: Tensor
    image_of: Tensor
    rows_of: tuple[int, ...]
    token_mask: Tensor
    window: int
    leaves: Tensor | None

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
        counts = windows.sum(dim=(1, 2)) if leaf_mode else active.sum(dim=1)
        image_of = torch.arange(len(active), device=active.device).repeat_interleave(counts)
        return cls(active, image_of, tuple(counts.tolist()), token_mask, window, windows[active] if leaf_mode else None)

    @property
    def window_count(self) -> int:
        """Number of windows that contain an active token, over all images."""
        return int(self.active.sum()) if self.leaves is None else len(self.leaves)

    def chunks(self, size: int) -> list[WindowPlan]:
        """The same rows in window mode, at most ``size`` windows at a time; for rows that were already gathered.

        In leaf mode there is one chunk: a window's tokens must stay together, and they are few.
        """
        if self.leaves is not None:
            return [self]
        ends = [0, *itertools.accumulate(self.rows_of)]
        return [
            replace(
                self,
                image_of=self.image_of[start : start + size],
                rows_of=tuple(
                    max(0, min(end, start + size) - max(begin, start)) for begin, end in itertools.pairwise(ends)
                ),
            )
            for start in range(0, len(self.image_of), size)
        ]

    def gather(self, grid: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` -> ``(R, L, D)``: the rows that are computed; L is 1 in leaf mode."""
        windows = to_windows(grid, self.window)[self.active]
        return windows if self.leaves is None else windows[self.leaves][:, None]

    def scatter(self, rows: Tensor) -> Tensor:
        """``(R, L, D)`` -> ``(B, rows, columns, D)``, zero where nothing was computed."""
        _, height, width = self.token_mask.shape
        windows = self.meet(rows)
        grid = windows.new_zeros((*self.active.shape, *windows.shape[1:]))
        grid[self.active] = windows
        return from_windows(grid, self.window, height, width)

    def meet(self, rows: Tensor) -> Tensor:
        """``(R, L, D)`` -> ``(N, tokens, D)``: tokens in their windows, zero where there is none."""
        if self.leaves is None:
            return rows
        windows = rows.new_zeros((*self.leaves.shape, rows.shape[-1]))
        windows[self.leaves] = rows[:, 0]
        return windows

    def part(self, windows: Tensor) -> Tensor:
        """Undo :meth:`meet`."""
        return windows if self.leaves is None else windows[self.leaves][:, None]
