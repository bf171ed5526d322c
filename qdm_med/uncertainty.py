"""Calibration of uncertainty: from the spread of the samples to the distance of the truth; it belongs to a model's weights.

Samples of one input agree more with each other than with the truth: all share what the model gets wrong, and none knows
the noise of a slice that nobody has seen. Both are measured on patients that the model was not trained on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter
from scipy.special import stdtrit  # scipy.stats has it too, and takes half a second of every start

from qdm_med.errors import ConfigError
from qdm_med.volume import FloatArray

COVERAGE = 0.95
"""Share of pixels whose truth lies within :data:`REACH` calibrated standard deviations of the mean."""
REACH = 1.96
"""The quantile (1 + 0.95) / 2 of the normal distribution."""

BAND_ROWS = 512
"""Rows that are calibrated at a time."""

_TERMS = ("factor", "edge", "floor_hu")


def reach_of_samples(samples: int) -> float:
    """Standard deviations of N samples on either side of their mean that hold 95 % of further draws.

    If the truth is one more draw from the distribution of the samples, and that is normal, it lies within
    ``t sqrt(1 + 1/N)`` sample standard deviations of their mean in 95 % of the cases, t being Student's with N - 1 degrees.

    >>> round(reach_of_samples(8), 2), round(reach_of_samples(10**6), 2)
    (2.51, 1.96)
    """
    return float(stdtrit(samples - 1, (1 + COVERAGE) / 2) * np.sqrt(1 + 1 / samples))


@dataclass(frozen=True)
class TissueSpread:
    """Calibration at one HU of the samples' mean; between two of them it is interpolated.

    Attributes:
        tissue: Name of what has such HU.
        hu: HU of the samples' mean.
        factor: Factor on the samples' standard deviation there.
        floor_hu: Standard deviation in HU that is added in quadrature there.
        edge: Factor on :func:`local_contrast` of the mean there, likewise: nobody knows to a fraction of a pixel where an
            edge lies, and samples that all put it at one place do not say so.
    """

    tissue: str
    hu: float
    factor: float
    floor_hu: float
    edge: float = 0.0


def local_contrast(hu: FloatArray, scale: int) -> FloatArray:
    """Standard deviation in HU of what lies within a source pixel of each pixel, ``(rows, columns)`` float32.

    Args:
        hu: ``(rows, columns)`` super-resolved HU.
        scale: Pixels along a source pixel.
    """
    side = 2 * scale + 1
    mean = uniform_filter(hu, side, output=np.float32)
    squares = uniform_filter(np.square(hu, dtype=np.float32), side)
    return np.sqrt(np.maximum(squares - np.square(mean), 0), dtype=np.float32)


@dataclass(frozen=True)
class SpreadCalibration:
    """Conversion of the samples' standard deviation into a standard deviation of the error in HU.

    Attributes:
        scale: Magnification that it was measured at.
        steps: Sampling steps that it was measured at.
        samples: Samples that it was measured with.
        factor: Factor on the samples' standard deviation, where there is none by tissue.
        floor_hu: Standard deviation in HU that is added in quadrature, likewise.
        coverage: Share of the body's pixels, on patients that had no part in the measurement, whose truth lies within
            :data:`REACH` calibrated standard deviations.
        tissues: Factor and floor by the HU of the samples' mean, ascending: a network is wrong by other HU in lung and in
            bone than in muscle, and one number for all hides it.
        consistency: Agreement with the source that it was measured with; ``""`` before that was recorded, when it was the
            default of its time.
    """

    scale: int
    steps: int
    samples: int
    factor: float
    floor_hu: float
    coverage: float
    tissues: tuple[TissueSpread, ...] = ()
    consistency: str = ""

    def __post_init__(self) -> None:
        """Reject numbers that would make a map negative or zero."""
        numbers = [(self.factor, self.floor_hu), *((one.factor, one.floor_hu) for one in self.tissues)]
        for factor, floor_hu in numbers:
            if factor < 0 or floor_hu < 0:
                raise ConfigError(f"factor and floor must not be negative, got {factor} and {floor_hu} HU")
        if any(one.edge < 0 for one in self.tissues):
            raise ConfigError(f"edge factors must not be negative, got {[one.edge for one in self.tissues]}")
        places = [one.hu for one in self.tissues]
        if sorted(set(places)) != places:
            raise ConfigError(f"tissues of a calibration must ascend in HU, got {places}")

    def apply(self, std_hu: FloatArray, hu: FloatArray) -> FloatArray:
        """Compute ``sqrt((factor std)^2 + floor^2 + (edge contrast)^2)``, float32, with the numbers of each pixel's tissue.

        >>> calibration = SpreadCalibration(4, 2, 8, factor=2.0, floor_hu=3.0, coverage=0.95)
        >>> std, hu = np.array([[0.0, 2.0]], dtype=np.float32), np.array([[40.0, 900.0]], dtype=np.float32)
        >>> calibration.apply(std, hu).tolist()
        [[3.0, 5.0]]

        Args:
            std_hu: ``(rows, columns)`` standard deviation of the samples.
            hu: ``(rows, columns)`` their mean.
        """
        if not self.tissues:
            return np.hypot(np.float32(self.factor) * std_hu, np.float32(self.floor_hu))
        result = np.empty_like(std_hu, dtype=np.float32)
        for first in range(0, len(hu), BAND_ROWS):  # a slice at x8 is large, and this needs several of its size
            rows, reach = (
                slice(first, first + BAND_ROWS),
                slice(max(0, first - self.scale), first + BAND_ROWS + self.scale),
            )
            contrast = local_contrast(hu[reach], self.scale)[first - reach.start :][: len(hu[rows])]
            result[rows] = self.by_tissue(std_hu[rows], hu[rows], contrast)
        return result

    def by_tissue(self, std_hu: FloatArray, hu: FloatArray, contrast_hu: FloatArray) -> FloatArray:
        """Calibrate as :meth:`apply` does, in any shape, from a known local contrast."""
        factor, edge, floor = (self._at(hu, [getattr(one, name) for one in self.tissues]) for name in _TERMS)
        return np.sqrt(np.square(factor * std_hu) + np.square(edge * contrast_hu) + np.square(floor), dtype=np.float32)

    def _at(self, hu: FloatArray, values: Sequence[float]) -> NDArray[np.float32]:
        return np.interp(hu, [one.hu for one in self.tissues], values).astype(np.float32)

    def for_samples(self, samples: int) -> SpreadCalibration:
        """The calibration for another number of samples, whose standard deviation is surer or less sure (Student's t)."""
        share = reach_of_samples(samples) / reach_of_samples(self.samples)
        tissues = tuple(replace(one, factor=one.factor * share) for one in self.tissues)
        return replace(self, factor=self.factor * share, tissues=tissues)

    def description(self) -> str:
        """Description of the calibration, for the header of a map.

        >>> SpreadCalibration(4, 2, 8, factor=2.61, floor_hu=28.44, coverage=0.947).description()
        'sqrt((2.61 std)^2 + (28.4 HU)^2) (measured with 8 samples of 2 steps, 1.96 of it hold 95% of pixels)'
        """
        parts = [f"{one.tissue} {_formula(one.factor, one.floor_hu, one.edge)}" for one in self.tissues]
        measured = f"measured with {self.samples} samples of {self.steps} steps"
        return (
            f"{', '.join(parts) or _formula(self.factor, self.floor_hu)} "
            f"({measured}, {REACH:g} of it hold {self.coverage:.0%} of pixels)"
        )


def _formula(factor: float, floor_hu: float, edge: float = 0.0) -> str:
    contrast = f" + ({edge:.2f} contrast)^2" if edge else ""
    return f"sqrt(({factor:.2f} std)^2{contrast} + ({floor_hu:.1f} HU)^2)"


def nearest_calibration(
    calibrations: Sequence[SpreadCalibration], scale: int, steps: int, samples: int
) -> SpreadCalibration | None:
    """Choose the calibration measured at a scale and a number of steps, with the nearest number of samples.

    >>> known = [SpreadCalibration(4, 2, number, float(number), 0.0, 0.95) for number in (4, 8)]
    >>> nearest_calibration(known, 4, 2, 8).factor, nearest_calibration(known, 4, 3, 8)
    (8.0, None)
    """
    fits = [one for one in calibrations if (one.scale, one.steps) == (scale, steps)]
    if not fits:
        return None
    best = min(fits, key=lambda one: abs(one.samples - samples))
    return best if best.samples == samples or samples < 2 else best.for_samples(samples)


NOT_CALIBRATED = "none, the spread of the samples as it is"
"""Header text of a map where there is no calibration."""
