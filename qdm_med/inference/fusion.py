"""Weighted fusion of overlapping tiles in float64: by the paper's Gaussians (section 4.4), or by a short fade."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def gaussian_profile(length: int) -> Tensor:
    """Weights along one side of a tile, ``(length,)`` float64.

    Sigma is ``0.3 ((k - 1) / 2 - 1) + 0.8`` for a side of k output pixels; an even side takes the kernel of k + 1
    without its first tap, so that its peak lies right of the middle.
    """
    odd = length + 1 - length % 2
    # A tile of one or two pixels has no width to fall off over: the rule's sigma would be too small to divide by.
    sigma = max(0.3 * ((length - 1) / 2 - 1) + 0.8, 0.5)
    distance = np.arange(odd) - (odd - 1) / 2
    kernel = np.exp(-(distance**2) / (2 * sigma**2))
    return torch.from_numpy((kernel / kernel.sum())[odd - length :])


def gaussian_anywhere(length: int, before: bool, after: bool) -> Tensor:
    """Weights of :func:`gaussian_profile`, which are the same at the border of a slice."""
    return gaussian_profile(length)


Profile = Callable[[int, bool, bool], Tensor]
"""Weights along a side of a tile by its length in output pixels, and whether other tiles lie before and after it."""

NEXT_TO_NOTHING = 1e-9
"""Weight of pixels that do not count where another tile has a say."""


def halo_profile(length: int, before: bool, after: bool, *, scale: int, overlap: int) -> Tensor:
    """Weights along one side of a tile, ``(length,)`` float64: 1, next to nothing on the halo, and a fade between.

    The halo, the outermost quarter of the overlap, misses its surroundings: it does not count where another tile has a say.
    Two tiles fade into one another in the middle half of what they share. At the border of the slice there is no other tile.

    Args:
        length: Output pixels.
        before: Whether another tile lies before the first pixel.
        after: Whether another tile lies after the last pixel.
        scale: Output pixels a source pixel.
        overlap: Source pixels that neighbouring tiles share.
    """
    pixel = (torch.arange(length, dtype=torch.float64) + 0.5) / scale
    beyond = torch.full_like(pixel, overlap)  # farther from another tile than anything that fades
    from_end = torch.minimum(pixel if before else beyond, pixel.flip(0) if after else beyond)
    return ((from_end - overlap / 4) / (overlap / 2)).clamp(NEXT_TO_NOTHING, 1.0)


class TileFusion:
    """Weighted average of overlapping tiles.

    Args:
        shape: ``(C, H, W)`` of the fused image.
        profile: Weights along a side of a tile by its length and by whether other tiles lie before and after it; those of both
            sides are multiplied.
    """

    def __init__(self, shape: tuple[int, int, int], profile: Profile = gaussian_anywhere) -> None:
        self._profile = profile
        self._sum = torch.zeros(shape, dtype=torch.float64)
        self._weight = torch.zeros(shape[-2:], dtype=torch.float64)

    def add(self, tile: Tensor, row: int, column: int) -> None:
        """Add a tile, ``(C, h, w)``, whose first pixel belongs at (``row``, ``column``)."""
        height, width = tile.shape[-2:]
        sides = zip((row, column), (height, width), self._weight.shape, strict=True)
        weight = torch.outer(*(self._profile(side, at > 0, at + side < whole) for at, side, whole in sides))
        region = (..., slice(row, row + height), slice(column, column + width))
        self._sum[region] += tile.to("cpu", torch.float64) * weight
        self._weight[region] += weight

    def result(self) -> Tensor:
        """``(C, H, W)`` float64 fused image.

        Raises:
            RuntimeError: If a pixel was covered by no tile.
        """
        if uncovered := int((self._weight == 0).sum()):
            raise RuntimeError(f"{uncovered} pixels were covered by no tile")
        return self._sum / self._weight


def fade_in(box: tuple[slice, slice], shape: tuple[int, ...], *, margin: int, scale: int) -> Tensor:
    """Weights with which a box of a slice replaces what lies under it, without a seam.

    They rise linearly over the box's margin, except along the border of the slice, where there is nothing to meet.

    Args:
        box: Rows and columns of the box in source pixels.
        shape: Rows and columns of the slice.
        margin: Width of the rise in source pixels.
        scale: Magnification.

    Returns:
        ``(scale rows, scale columns)`` of the box, float32 in (0, 1].
    """
    return torch.outer(*(_rise(side, length, margin * scale, scale) for side, length in zip(box, shape, strict=True)))


def _rise(side: slice, length: int, width: int, scale: int) -> Tensor:
    pixel = torch.arange((side.stop - side.start) * scale) + 0.5
    from_start = pixel if side.start > 0 else torch.full_like(pixel, width)
    from_stop = pixel.flip(0) if side.stop < length else torch.full_like(pixel, width)
    return (torch.minimum(from_start, from_stop) / width).clamp(max=1)
