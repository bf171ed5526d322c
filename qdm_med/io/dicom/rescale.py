"""Stored values to Hounsfield units and back (PS3.3 C.11.1, C.7.5.1.1.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdm_med.volume import BoolArray, FloatArray

PADDING_HU = -1500.0
"""A constant region at or below this is no tissue and no air: the scanner recorded nothing there."""
PADDING_SHARE = 0.001
"""Share of a slice that has to have its lowest value for this to be a region rather than noise."""
_BLOCK = 1 << 15

Stored = NDArray[np.int32]
Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class PixelFormat:
    """Meaning of one slice's stored values.

    Attributes:
        bits_stored: Bits of a stored value, 8 to 16; the sign bit is one of them.
        signed: Whether stored values are two's complement (PixelRepresentation 1).
        slope: HU per stored unit, not zero.
        intercept: HU of the stored value 0.
        padding: PixelPaddingValue and PixelPaddingRangeLimit, smaller first; ``None`` if the source has none.
    """

    bits_stored: int
    signed: bool
    slope: float
    intercept: float
    padding: tuple[int, int] | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest stored value.

        >>> PixelFormat(12, False, 1.0, -1024.0).limits
        (0, 4095)
        """
        half = 1 << (self.bits_stored - 1)
        return (-half, half - 1) if self.signed else (0, 2 * half - 1)

    def to_hu(self, stored: Stored) -> FloatArray:
        """Convert stored values of any shape to HU."""
        return (stored * self.slope + self.intercept).astype(np.float32)

    def padding_ranges(self, stored: Stored) -> Ranges:
        """Ranges of stored values, both ends included, that mean padding in this slice.

        The declared padding, and a constant region at the lowest value if that lies at or below
        :data:`PADDING_HU`, which scanners write without declaring it. The ranges neither overlap nor touch.
        """
        ranges = [self.padding] if self.padding else []
        lowest = int(stored.min())
        if self.slope * lowest + self.intercept <= PADDING_HU and (stored == lowest).mean() > PADDING_SHARE:
            ranges.append((lowest, lowest))
        return _merged(ranges)

    def to_stored(self, hu: FloatArray, avoid: Ranges = ()) -> Stored:
        """Convert HU of any shape to the nearest stored values, clamped to the range of the bits, never wrapped.

        Args:
            hu: HU, finite.
            avoid: Ranges that mean padding: an image pixel takes the nearest value beside them.
        """
        stored = np.empty(np.shape(hu), dtype=np.int32)
        values, flat = np.asarray(hu).reshape(-1), stored.reshape(-1)
        # In blocks that stay in the processor's cache: passes over a whole slice would wait for its memory.
        for start in range(0, values.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            flat[block] = self._block_to_stored(values[block], avoid)
        return stored

    def _block_to_stored(self, hu: FloatArray, avoid: Ranges) -> Stored:
        low, high = self.limits
        exact = hu.astype(np.float64)
        exact -= self.intercept
        exact /= self.slope
        nearest = np.rint(exact)
        stored = np.clip(nearest, low, high, out=nearest).astype(np.int32)
        for first, last in avoid:
            inside = (stored >= first) & (stored <= last)
            if inside.any():
                below = (first > low) & ((2 * exact[inside] < first + last) | (last >= high))
                stored[inside] = np.where(below, first - 1, min(last + 1, high))
        return stored


def in_ranges(stored: Stored, ranges: Ranges) -> BoolArray:
    """Mark stored values that lie in one of the ranges."""
    inside = np.zeros(stored.shape, dtype=bool)
    for first, last in ranges:
        inside |= (stored >= first) & (stored <= last)
    return inside


def magnified(plane: NDArray[Any], matrix: tuple[int, int]) -> NDArray[Any]:
    """Repeat a plane on a finer grid of the same field of view: every new pixel has the value at its centre.

    >>> magnified(np.array([[1, 2]]), (2, 4)).tolist()
    [[1, 1, 2, 2], [1, 1, 2, 2]]
    """
    for axis, (new, old) in enumerate(zip(matrix, plane.shape, strict=True)):
        plane = plane.take((2 * np.arange(new) + 1) * old // (2 * new), axis=axis)
    return plane


def overwrite_blocks(fine: Stored, coarse: Stored, where: BoolArray) -> None:
    """Give pixels of ``fine`` the value of ``coarse`` at their centre, where that is marked.

    Args:
        fine: ``(rows, columns)`` of a finer grid; changed.
        coarse: ``(rows, columns)`` on the same field of view.
        where: As ``coarse``, True for pixels to repeat.
    """
    if where.any():
        matrix = fine.shape[0], fine.shape[1]
        np.copyto(fine, magnified(coarse, matrix), where=magnified(where, matrix))


def _merged(ranges: list[tuple[int, int]]) -> Ranges:
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)
