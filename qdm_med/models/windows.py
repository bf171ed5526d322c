"""Which windows of the downstream token grid are computed, and how tokens move between grid and windows."""

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
        windows, "b (y x) (wy wx) ... -> b (y wy) (x wx) ...", y=rows // window, x=columns // window, wy=window
    )


@dataclass(frozen=True)
class WindowPlan:
    """The windows that a mask asks for, worked out once and used by every block of every step.

    Attributes:
        active: ``(B, windows)`` bool, True where a window is computed.
        image_of: ``(N,)`` image that each computed window belongs to, ascending.
        windows_of: Number of computed windows of each of the B images; Python integers, so that the steps of the
            sampler need not wait for the device.
        key_mask: ``(N, tokens)`` bool tokens of each computed window that may be attended to; ``None``: all.
        token_mask: ``(B, rows, columns)`` bool, the mask itself on the (padded) token grid.
        window: Side of a window in tokens.
    """

    active: Tensor
    image_of: Tensor
    windows_of: tuple[int, ...]
    key_mask: Tensor | None
    token_mask: Tensor
    window: int

    @classmethod
    def from_mask(cls, token_mask: Tensor, *, window: int, attend_to_active_only: bool) -> WindowPlan:
        """Plan the windows that contain an active token.

        Args:
            token_mask: ``(B, rows, columns)`` bool; rows and columns multiples of ``window``.
            window: Side of a window in tokens.
            attend_to_active_only: Whether inactive tokens are hidden from the attention inside a window.
        """
        windows = to_windows(token_mask, window)  # (B, windows, tokens)
        active = windows.any(dim=-1)
        image_of = torch.arange(len(active), device=active.device)[:, None].expand_as(active)[active]
        windows_of = tuple(active.sum(dim=1).tolist())
        key_mask = windows[active] if attend_to_active_only else None
        return cls(active, image_of, windows_of, key_mask, token_mask, window)

    @property
    def count(self) -> int:
        """Number of windows that are computed, over all images."""
        return sum(self.windows_of)

    def chunks(self, size: int) -> list[WindowPlan]:
        """The same windows, at most ``size`` at a time; only for use with windows that were already gathered."""
        parts = []
        for start in range(0, self.count, size):
            image_of = self.image_of[start : start + size]
            ends = [0, *itertools.accumulate(self.windows_of)]
            windows_of = tuple(
                max(0, min(end, start + size) - max(begin, start)) for begin, end in itertools.pairwise(ends)
            )
            key_mask = None if self.key_mask is None else self.key_mask[start : start + size]
            parts.append(replace(self, image_of=image_of, windows_of=windows_of, key_mask=key_mask))
        return parts

    def gather(self, grid: Tensor) -> Tensor:
        """``(B, rows, columns, D)`` -> ``(N, tokens, D)``: the windows that are computed."""
        return to_windows(grid, self.window)[self.active]

    def scatter(self, windows: Tensor) -> Tensor:
        """``(N, tokens, D)`` -> ``(B, rows, columns, D)``, zero in windows that are not computed."""
        _, rows, columns = self.token_mask.shape
        grid = windows.new_zeros((*self.active.shape, *windows.shape[1:]))
        grid[self.active] = windows
        return from_windows(grid, self.window, rows, columns)
