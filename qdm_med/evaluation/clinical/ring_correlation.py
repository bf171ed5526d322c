"""Fourier ring correlation with the truth: the frequency up to which an image shows it (van Heel, Ultramicroscopy 1987)."""

from __future__ import annotations

import numpy as np

from qdm_med.evaluation.clinical.scan import Floats
from qdm_med.volume import FloatArray

HALF = 0.5
FIRST_RING = 2
"""The lowest rings hold a few numbers each and say nothing."""


def resolution(hu: FloatArray, truth_hu: FloatArray) -> float:
    """FRC50: frequency in cycles a pixel at which the correlation first falls below one half; 0.5 where it never does.

    Args:
        hu: ``(rows, columns)`` HU.
        truth_hu: Likewise, true.
    """
    rows, columns = hu.shape
    window = np.hanning(rows)[:, None] * np.hanning(columns)
    own, true = (np.fft.fft2(one.astype(np.float64) * window) for one in (hu, truth_hu))
    count = min(rows, columns) // 2
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(rows), np.fft.fftfreq(columns), indexing="ij"))
    ring = np.rint(frequency * 2 * count).astype(int).ravel()

    def over_rings(values: Floats) -> Floats:
        sums: Floats = np.bincount(ring, values.ravel())[:count].astype(np.float64)
        return sums

    cross = over_rings((own * true.conj()).real)
    strength = np.sqrt(over_rings(np.abs(own) ** 2) * over_rings(np.abs(true) ** 2))
    correlation = np.convolve(cross / np.maximum(strength, 1e-9), np.ones(3) / 3, mode="same")
    below = np.flatnonzero(correlation[FIRST_RING:] < HALF)
    return float(below[0] + FIRST_RING) / (2 * count) if len(below) else 0.5
