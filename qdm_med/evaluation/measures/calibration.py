"""Calibration of an uncertainty map: how often the truth lies within the range that the samples give."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from qdm_med.uncertainty import COVERAGE, REACH
from qdm_med.volume import BoolArray, FloatArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """Comparison of an uncertainty map with the errors that were made.

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
    mean_hu: FloatArray, std_hu: FloatArray, reference_hu: FloatArray, mask: BoolArray, *, reach: float = REACH
) -> Calibration | None:
    """Compare a mean and a standard-deviation map with the truth; ``None`` for a mask without pixels.

    Args:
        mean_hu: ``(rows, columns)`` mean of the samples.
        std_hu: ``(rows, columns)`` their standard deviation (N - 1), or what a calibration made of it.
        reference_hu: ``(rows, columns)`` true HU.
        mask: Pixels that count.
        reach: Standard deviations on either side of the mean that should hold 95 %: of N samples, see
            :func:`qdm_med.uncertainty.reach_of_samples`; of a calibrated map, the normal distribution's.
    """
    if not mask.any():
        return None
    error = np.abs(mean_hu[mask].astype(np.float64) - reference_hu[mask])
    std = std_hu[mask].astype(np.float64)
    constant = error.std() == 0 or std.std() == 0
    return Calibration(
        coverage=float((error <= reach * std).mean()),
        std_hu=float(std.mean()),
        correlation=float("nan") if constant else float(np.corrcoef(std, error)[0, 1]),
    )


def fit_spread(error_hu: Floats, std_hu: Floats) -> tuple[float, float]:
    """Fit a factor and a floor in HU, for which ``REACH sqrt((factor std)^2 + floor^2)`` covers 95 % of the errors.

    Args:
        error_hu: ``(N,)`` absolute errors of the samples' means.
        std_hu: ``(N,)`` the samples' standard deviations at the same pixels.
    """
    factor, floor = fit_terms(error_hu, std_hu)
    return factor, floor


def fit_terms(error_hu: Floats, *terms_hu: Floats) -> tuple[float, ...]:
    """Fit factors and a floor in HU, for which ``REACH sqrt(sum (factor term)^2 + floor^2)`` covers 95 % of the errors.

    Quantile regression (Koenker and Bassett, Econometrica 46, 1978) of the absolute error on the terms: unlike
    a likelihood it asks nothing of the errors' distribution, whose tails are heavy at edges.

    Args:
        error_hu: ``(N,)`` absolute errors of the samples' means.
        terms_hu: ``(N,)`` each: what the error may grow with, at the same pixels.

    Returns:
        A factor for each term, and the floor.
    """
    squares = [np.square(term) for term in terms_hu]

    def check_loss(parameters: Floats) -> float:
        variance = sum(
            (factor**2 * square for factor, square in zip(parameters, squares, strict=False)), parameters[-1] ** 2
        )
        beyond = error_hu - REACH * np.sqrt(variance)
        return float(np.maximum(COVERAGE * beyond, (COVERAGE - 1) * beyond).mean())

    start = np.array([*(1.0 for _ in terms_hu), max(1.0, float(np.median(error_hu)))])
    found = np.abs(minimize(check_loss, start, method="Nelder-Mead").x)  # only their squares count
    return tuple(found.tolist())
