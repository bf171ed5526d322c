"""Fusion of tiles from top to bottom, in memory that does not grow with the height of the image."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from qdm_med.inference.fusion import gaussian_profile


class BandFusion:
    """Gaussian fusion of tiles (arXiv 2503.12015, section 4.4) that holds only rows which a later tile may still touch.

    Args:
        channels: Channels of the image.
        rows: Rows of the highest tile in output pixels.
        columns: Columns of the image in output pixels.
    """

    def __init__(self, channels: int, rows: int, columns: int) -> None:
        self._sum = torch.zeros((channels, rows, columns), dtype=torch.float64)
        self._weight = torch.zeros((rows, columns), dtype=torch.float64)
        self._first = 0

    def add(self, tile: Tensor, row: int, column: int) -> None:
        """Add ``(C, h, w)`` whose first pixel belongs at (``row``, ``column``) of the image."""
        height, width = tile.shape[-2:]
        weight = torch.outer(gaussian_profile(height), gaussian_profile(width))
        top = row - self._first
        region = (..., slice(top, top + height), slice(column, column + width))
        self._sum[region] += tile.to("cpu", torch.float64) * weight
        self._weight[region] += weight

    def release(self, stop: int, together: int) -> Iterator[Tensor]:
        """Take the finished rows up to ``stop``, ``together`` at a time, ``(C, rows, columns)`` float64."""
        count = stop - self._first
        for start in range(0, count, together):
            piece = slice(start, min(start + together, count))
            yield self._sum[:, piece] / self._weight[piece]
        for held in (self._sum, self._weight):
            held[..., : held.shape[-2] - count, :] = held[..., count:, :].clone()
            held[..., held.shape[-2] - count :, :] = 0
        self._first = stop
