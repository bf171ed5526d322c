"""Noise of a CT slice in HU, from the slice itself: the spread in its quietest soft-tissue places.

(:mod:`qdm_med.data.noise_level` asks something else: what differs from pixel to pixel. The noise of a kernel is correlated, and
most of it does not.)
"""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from qdm_med.volume import BoolArray, FloatArray

Floats = NDArray[np.float64]

BLOCK = 8
"""Side in pixels of the places that are read: wide enough for the noise of a smooth kernel, narrow enough for tissue."""

STEP = 4
"""Distance in pixels between neighbouring places."""

QUIET_SHARE = 0.2
"""Share of the places that is taken to hold no structure."""

QUIET_BIAS = 0.895
"""That quantile of the places' spread in units of the noise's standard deviation, for noise as CT kernels make it (simulated
between point spreads of 0.8 and 2.0 pixels: 0.88 to 0.91)."""

TISSUE_HU = (-250.0, 250.0)
"""Means of the places that count where there are enough: lung is structure everywhere, air is cut off at the scale's end."""

LOWEST_HU = -900.0
"""Air is no place to read noise from: many scanners cut it off at -1024 HU."""

FEWEST_PLACES = 40
"""Places below which nothing is said."""

OUTSIDE_SHARE = 0.1
"""Share of a place's pixels that may be padding or cut off."""


def slice_noise_hu(hu: FloatArray, padding: BoolArray | None = None) -> float | None:
    """Standard deviation of a slice's noise in HU; ``None`` where too few places show it.

    Each place is 8 x 8 pixels without the plane that fits it best. The quantile of their spreads is robust: four fifths of
    the places may hold vessels, folds and edges.

    Args:
        hu: ``(rows, columns)`` HU.
        padding: ``(rows, columns)`` bool, where the scanner recorded nothing.
    """
    if min(hu.shape) < BLOCK:
        return None
    unread = hu <= LOWEST_HU if padding is None else padding | (hu <= LOWEST_HU)
    places = _places(hu.astype(np.float64))
    read = _places(unread.astype(np.float64)).mean(axis=1) <= OUTSIDE_SHARE
    mean = places.mean(axis=1)
    tissue = read & (mean > TISSUE_HU[0]) & (mean < TISSUE_HU[1])
    counted = tissue if tissue.sum() >= FEWEST_PLACES else read
    if counted.sum() < FEWEST_PLACES:
        return None
    return float(np.quantile(_spread(places[counted]), QUIET_SHARE)) / QUIET_BIAS


def _places(image: Floats) -> Floats:
    """``(N, BLOCK * BLOCK)`` HU of the places."""
    windows = sliding_window_view(image, (BLOCK, BLOCK))[::STEP, ::STEP]
    return windows.reshape(-1, BLOCK * BLOCK)


def _spread(places: Floats) -> Floats:
    """``(N,)`` standard deviations of places about their best planes."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, BLOCK)] * 2, indexing="ij")
    basis, _ = np.linalg.qr(np.stack([np.ones(BLOCK**2), row.ravel(), column.ravel()], axis=1))
    left = places - (places @ basis) @ basis.T
    return np.sqrt(np.square(left).sum(axis=1) / (BLOCK**2 - basis.shape[1]))
