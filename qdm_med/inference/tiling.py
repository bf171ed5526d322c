"""Tiling of a large slice: with the paper's overlap and fusion, or with windows that are those of the slice and a short fade."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from qdm_med.errors import ConfigError

OVERLAP = 16
"""Low-resolution pixels that neighbouring tiles of the paper share."""

HALO_OVERLAP = 32
"""The same of tiles with a halo, of a network that sees nearby tokens only: with half of it slices depend more on their tiles
(``benchmarks/clinical_slices.py`` measures how much)."""


@dataclass(frozen=True)
class Tiling:
    """Side and stride of the tiles, in low-resolution pixels.

    The paper's are 128 and 112, and 64 and 48 for a model trained on 64 -> 512: both overlap by 16.

    Attributes:
        step: Source pixels by which tiles are made smaller: a window at x4, two at x8.
        least: Smallest side that is used.
        tile: Side of a tile.
        stride: Distance between the starts of neighbouring tiles; at most ``tile``.
    """

    step: ClassVar[int] = 16
    least: ClassVar[int] = 2 * OVERLAP

    tile: int = 128
    stride: int = 112

    def __post_init__(self) -> None:
        """Reject tiles that leave gaps."""
        if not 0 < self.stride <= self.tile:
            raise ConfigError(f"need 0 < stride <= tile, got stride {self.stride} and tile {self.tile}")

    @classmethod
    def of(cls, tile: int) -> Tiling:
        """Tiles of a given side, with the paper's overlap.

        >>> Tiling.of(128), Tiling.of(64)
        (Tiling(tile=128, stride=112), Tiling(tile=64, stride=48))
        """
        if tile < cls.least:
            raise ConfigError(f"tile must be at least {cls.least} source pixels, got {tile}")
        return cls(tile, tile - OVERLAP)

    def of_side(self, tile: int) -> Tiling:
        """Tiles of another side with the same overlap."""
        return Tiling.of(tile)

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


@dataclass(frozen=True)
class HaloTiling:
    """Tiles that start on whole windows, so that the windows of a tile are those of the slice, as equal as that allows.

    What lies near a tile's border is seen by the next one further inside: a short fade between them,
    :func:`qdm_med.inference.fusion.halo_profile`, is enough.

    Attributes:
        tile: Largest side of a tile in source pixels, a multiple of ``align``.
        align: Source pixels of which starts are multiples: the side of a window.
        overlap: Source pixels that neighbouring tiles share, at least.
    """

    tile: int = 128
    align: int = 16
    overlap: int = HALO_OVERLAP

    @property
    def step(self) -> int:
        """Source pixels by which tiles are made smaller."""
        return max(Tiling.step, self.align)

    @property
    def least(self) -> int:
        """Smallest side that is used."""
        return -(-2 * self.overlap // self.align) * self.align

    def __post_init__(self) -> None:
        """Reject tiles that overlap along their whole side."""
        if self.tile < self.least or self.tile % self.align:
            raise ConfigError(
                f"tile must be at least {self.least} source pixels and a multiple of {self.align}, got {self.tile}"
            )

    def of_side(self, tile: int) -> HaloTiling:
        """Tiles of another side."""
        return HaloTiling(tile, self.align, self.overlap)

    def side_for(self, length: int) -> int:
        """Side of the tiles that cover ``[0, length)``: as few tiles as possible, and none larger than so few need.

        >>> HaloTiling(544, 16).side_for(512), HaloTiling(288, 16).side_for(512), HaloTiling(272, 8).side_for(512)
        (512, 272, 272)
        """
        if length <= self.tile:
            return length
        count = -(-(length - self.overlap) // (self.tile - self.overlap))
        even = -(-(length + (count - 1) * self.overlap) // count)
        return min(self.tile, -(-even // self.align) * self.align)

    def starts(self, length: int) -> list[int]:
        """Starts of the tiles that cover ``[0, length)``; the last is cut off at the border.

        >>> HaloTiling(544, 16).starts(512), HaloTiling(288, 16).starts(512), HaloTiling(144, 8).starts(512)
        ([0], [0, 240], [0, 96, 192, 288, 384])
        """
        side = self.side_for(length)
        stride = (side - self.overlap) // self.align * self.align
        return list(range(0, max(1, length - self.overlap), stride)) if side < length else [0]

    def regions(self, rows: int, columns: int) -> Iterator[tuple[slice, slice]]:
        """Row and column ranges of every tile, row by row."""
        for top in self.starts(rows):
            for left in self.starts(columns):
                yield (
                    slice(top, min(top + self.side_for(rows), rows)),
                    slice(left, min(left + self.side_for(columns), columns)),
                )


AnyTiling = Tiling | HaloTiling
