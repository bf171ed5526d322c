"""Hounsfield units to the network's range [-1, 1] and back.

Three mappings, all monotone and, inside their range, exactly invertible up to float32 rounding:

* :class:`HuWindow` is the paper's protocol: one display window, everything outside it clipped.
* :class:`CompandedRange` keeps the whole CT range and spends most of [-1, 1] on soft tissue, where the
  differences that matter are small. It has knees: an error of one size in network units is fifteen times larger in HU
  above 240 HU than below.
* :class:`AsinhRange` keeps the whole CT range without a knee: what a network unit is worth changes slowly with HU, and
  by less than a factor of two between lung, soft tissue, contrast medium and bone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import ConfigError
from qdm_med.volume import FloatArray

HU_MIN = -1024.0
"""Lowest HU of a 12-bit CT (PS3.3 C.8.2.1: stored 0 with the usual intercept)."""
HU_MAX = 3071.0
"""Highest HU of a 12-bit CT."""


@dataclass(frozen=True)
class HuWindow:
    """A display window mapped linearly onto [-1, 1]; values outside it are clipped (the paper's protocol).

    Attributes:
        centre: Middle of the window in HU.
        width: Width of the window in HU, positive.
    """

    centre: float = 40.0
    width: float = 400.0

    kind: ClassVar[str] = "window"

    def __post_init__(self) -> None:
        """Reject a window without a width."""
        if not self.width > 0:
            raise ConfigError(f"width of a HU window must be positive, got {self.width}")

    @property
    def hu_range(self) -> tuple[float, float]:
        """HU that map onto -1 and 1."""
        return self.centre - self.width / 2, self.centre + self.width / 2

    def to_unit(self, hu: NDArray[Any]) -> FloatArray:
        """Map HU of any shape to float32 in [-1, 1]."""
        unit = (np.asarray(hu, dtype=np.float64) - self.centre) / (self.width / 2)
        return np.clip(unit, -1.0, 1.0).astype(np.float32)

    def to_hu(self, unit: NDArray[Any]) -> FloatArray:
        """Map [-1, 1] of any shape to float32 HU; values beyond the range are clipped to it first."""
        clipped = np.clip(np.asarray(unit, dtype=np.float64), -1.0, 1.0)
        return (clipped * (self.width / 2) + self.centre).astype(np.float32)

    def hu_per_unit(self, hu: float) -> float:
        """Worth of one network unit at ``hu``, in HU: the same everywhere inside the window."""
        return self.width / 2


@dataclass(frozen=True)
class CompandedRange:
    """The full CT range, piecewise linear, with more than half of [-1, 1] given to soft tissue.

    What one network unit is worth with the default knots, in HU: lung (-1024 to -200 HU) 1648, soft tissue
    (-200 to 240 HU) 419, bone and metal (240 to 3071 HU) 6291. The quadtree threshold 0.15 is therefore a range
    of 63 HU in soft tissue and of 247 HU in lung.

    Attributes:
        knots_hu: HU of the knots, strictly increasing.
        knots_unit: Network values of the knots, strictly increasing, first -1 and last 1.
    """

    knots_hu: tuple[float, ...] = (HU_MIN, -200.0, 240.0, HU_MAX)
    knots_unit: tuple[float, ...] = (-1.0, -0.5, 0.55, 1.0)

    kind: ClassVar[str] = "companded"

    def __post_init__(self) -> None:
        """Reject knots that do not make an invertible map onto [-1, 1]."""
        if len(self.knots_hu) != len(self.knots_unit) or len(self.knots_hu) < 2:
            raise ConfigError(f"knots must come in pairs, got {len(self.knots_hu)} HU and {len(self.knots_unit)} units")
        if (np.diff(self.knots_hu) <= 0).any() or (np.diff(self.knots_unit) <= 0).any():
            raise ConfigError(f"knots must increase strictly, got {self.knots_hu} -> {self.knots_unit}")
        if self.knots_unit[0] != -1.0 or self.knots_unit[-1] != 1.0:
            raise ConfigError(f"unit knots must run from -1 to 1, got {self.knots_unit[0]} to {self.knots_unit[-1]}")

    @property
    def hu_range(self) -> tuple[float, float]:
        """HU that map onto -1 and 1."""
        return self.knots_hu[0], self.knots_hu[-1]

    def to_unit(self, hu: NDArray[Any]) -> FloatArray:
        """Map HU of any shape to float32 in [-1, 1]; HU outside the range are clipped to it.

        >>> CompandedRange().to_unit(np.array([-1024, -200, 240, 3071])).tolist()
        [-1.0, -0.5, 0.550000011920929, 1.0]
        """
        return np.interp(hu, self.knots_hu, self.knots_unit).astype(np.float32)

    def to_hu(self, unit: NDArray[Any]) -> FloatArray:
        """Map [-1, 1] of any shape to float32 HU; values beyond the range are clipped to it first."""
        return np.interp(unit, self.knots_unit, self.knots_hu).astype(np.float32)

    def hu_per_unit(self, hu: float) -> float:
        """Worth of one network unit at ``hu``, in HU; on a knot, below it."""
        part = int(np.clip(np.searchsorted(self.knots_hu, hu) - 1, 0, len(self.knots_hu) - 2))
        return float(np.diff(self.knots_hu)[part] / np.diff(self.knots_unit)[part])


@dataclass(frozen=True)
class AsinhRange:
    """The full CT range on an inverse hyperbolic sine: nearly linear around soft tissue, logarithmic far from it.

    What one network unit is worth with the defaults, in HU (:meth:`hu_per_unit`): lung (-850 HU) 1964, fat (-100) 1127,
    soft tissue (40) 1098, contrast medium (300) 1197, spongy bone (700) 1632, cortical bone (1200) 2390. The quadtree
    threshold 0.15 is therefore a range of 165 HU in soft tissue and of 295 HU in lung.

    Attributes:
        centre: HU where the map is steepest.
        width: HU on either side of the centre in which it is nearly linear, positive.
        lowest: HU that maps onto -1.
        highest: HU that maps onto 1.
    """

    centre: float = 40.0
    width: float = 600.0
    lowest: float = HU_MIN
    highest: float = HU_MAX

    kind: ClassVar[str] = "asinh"

    def __post_init__(self) -> None:
        """Reject numbers that make no increasing map onto [-1, 1]."""
        if not self.width > 0:
            raise ConfigError(f"width of an asinh range must be positive, got {self.width}")
        if not self.lowest < self.highest:
            raise ConfigError(f"lowest HU {self.lowest} must lie below the highest, {self.highest}")

    @property
    def hu_range(self) -> tuple[float, float]:
        """HU that map onto -1 and 1."""
        return self.lowest, self.highest

    def to_unit(self, hu: NDArray[Any]) -> FloatArray:
        """Map HU of any shape to float32 in [-1, 1]; HU outside the range are clipped to it.

        >>> AsinhRange().to_unit(np.array([-2000, -1024, 3071])).tolist()
        [-1.0, -1.0, 1.0]
        """
        inside = np.clip(np.asarray(hu, dtype=np.float64), self.lowest, self.highest)
        first, last = self._ends
        return (2 * (np.arcsinh((inside - self.centre) / self.width) - first) / (last - first) - 1).astype(np.float32)

    def to_hu(self, unit: NDArray[Any]) -> FloatArray:
        """Map [-1, 1] of any shape to float32 HU; values beyond the range are clipped to it first."""
        first, last = self._ends
        share = (np.clip(np.asarray(unit, dtype=np.float64), -1.0, 1.0) + 1) / 2
        return (np.sinh(first + share * (last - first)) * self.width + self.centre).astype(np.float32)

    def hu_per_unit(self, hu: float) -> float:
        """Worth of one network unit at ``hu``, in HU."""
        first, last = self._ends
        return (last - first) / 2 * math.hypot(hu - self.centre, self.width)

    @property
    def _ends(self) -> tuple[float, float]:
        """Hyperbolic angles of the lowest and the highest HU."""
        return math.asinh((self.lowest - self.centre) / self.width), math.asinh(
            (self.highest - self.centre) / self.width
        )


IntensityMap = HuWindow | CompandedRange | AsinhRange
