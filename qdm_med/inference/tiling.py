"""Where the overlapping tiles of a large slice lie (paper section 4.4)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdm_med.errors import ConfigError

OVERLAP = 16
"""Pixels that neighbouring tiles share, in low-resolution pixels."""


@dataclass(frozen=True)
class Tiling:
    """Side and stride of the tiles, in low-resolution pixels.

    The paper's are 128 and 112, and 64 and 48 for a model trained on 64 -> 512: both overlap by 16.

    Attributes:
        tile: Side of a tile.
        stride: Distance between the starts of neighbouring tiles; at most ``tile``.
    """

    tile: int = 128
    stride: int = 112

    def __post_init__(self) -> None:
        """Reject tiles that leave gaps."""
        if not 0 < self.stride <= self.tile:
            raise ConfigError(f"need 0 < stride <= tile, got stride {self.stride} and tile {self.tile}")

    @classmethod
    def of(cls, tile: int) -> Tiling:
        """Tiles of a given side with the paper's overlap.

        >>> Tiling.of(128), Tiling.of(64)
        (Tiling(tile=128, stride=112), Tiling(tile=64, stride=48))
        """
        if tile < 2 * OVERLAP:
            raise ConfigError(f"tile must be at least {2 * OVERLAP} source pixels, got {tile}")
        return cls(tile, tile - OVERLAP)

    def starts(self, length: int) -> list[int]:
        """Starts of the tiles that cover ``[0, length)``; the last is pulled back to fit.

        >>> Tiling(64, 48).starts(100), Tiling(64, 48).starts(17)
        ([0, 36], [0])
        """
        if length <= self.tile:
            return [0]
        last = length - self.tile
        return [*range(0, last, self.stride), last]

    def regions(self, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
        """Row and column ranges of every tile, row by row; a side shorter than a tile is covered whole."""
        for top in self.starts(rows):
            for left in self.starts(columns):
                yield slice(top, min(top + self.tile, rows)), slice(left, min(left + self.tile, columns))
