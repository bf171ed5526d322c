"""Calibration of an uncertainty map: how often the truth lies where the samples say it should."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

from qdm_med.volume import BoolArray, FloatArray

LEVEL = 0.95


@dataclass(frozen=True)
class Calibration:
    """An uncertainty map against the errors that were made.

    Attributes:
        coverage: Share of pixels whose truth lies within the 95 % prediction interval: 0.95 if the map is right, less if
            the samples are too sure of themselves.
        std_hu: Mean standard deviation: of two maps with the right coverage, the smaller one says more.
        correlation: Pearson correlation of standard deviation and absolute error: whether the map knows where the errors
            are. NaN where either is constant.
    """

    coverage: float
    std_hu: float
    correlation: float


def calibration(
    mean_hu: FloatArray, std_hu: FloatArray, reference_hu: FloatArray, samples: int, mask: BoolArray
) -> Calibration | None:
    """Compare a mean and a standard-deviation map with the truth; ``None`` for a mask without pixels.

    If the truth is one more draw from the distribution of the samples, and that is normal, it lies within
    ``t sqrt(1 + 1/N)`` sample standard deviations of their mean in 95 % of the cases, t being Student's with N - 1 degrees.

    Args:
        mean_hu: ``(rows, columns)`` mean of the samples.
        std_hu: ``(rows, columns)`` sample standard deviation (N - 1).
        reference_hu: ``(rows, columns)`` true HU.
        samples: N, at least 2.
        mask: Pixels that count.
    """
    if not mask.any():
        return None
    error = np.abs(mean_hu[mask].astype(np.float64) - reference_hu[mask])
    std = std_hu[mask].astype(np.float64)
    reach = student.ppf((1 + LEVEL) / 2, samples - 1) * np.sqrt(1 + 1 / samples)
    constant = error.std() == 0 or std.std() == 0
    return Calibration(
        coverage=float((error <= reach * std).mean()),
        std_hu=float(std.mean()),
        correlation=float("nan") if constant else float(np.corrcoef(std, error)[0, 1]),
    )
