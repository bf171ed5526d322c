"""Noise power spectrum in uniform regions of the reference (ICRU Report 87; AAPM Task Group 233)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdm_med.evaluation.measures.tissues import SOFT_TISSUE_HU
from qdm_med.volume import FloatArray

Floats = NDArray[np.float64]

REGION_PX = 32
"""Side of a region."""
MOST_REGIONS = 16
FEWEST_REGIONS = 4
LARGEST_SPREAD_HU = 60.0
"""A region with more standard deviation than this in the reference holds structure."""


@dataclass(frozen=True)
class NoisePower:
    """Noise power spectrum, with the strength and the coarseness of the noise.

    Attributes:
        frequency: ``(F,)`` cycles a pixel.
        power: ``(F,)`` HU² pixel², averaged over rings of the two-dimensional spectrum.
        noise_hu: Standard deviation: the root of the spectrum's integral.
        mean_frequency: Its centre of mass in cycles a pixel: a smaller one is coarser noise.
    """

    frequency: Floats
    power: Floats
    noise_hu: float
    mean_frequency: float


def uniform_regions(reference_hu: FloatArray) -> list[tuple[slice, slice]]:
    """Find up to 16 of the most uniform soft-tissue regions of 32 x 32 pixels, none overlapping another by more than half."""
    height, width = reference_hu.shape
    half = REGION_PX // 2
    found = []
    for row in range(0, height - REGION_PX + 1, half):
        for column in range(0, width - REGION_PX + 1, half):
            place = slice(row, row + REGION_PX), slice(column, column + REGION_PX)
            region = reference_hu[place]
            spread = float(region.std())
            if SOFT_TISSUE_HU[0] <= region.mean() <= SOFT_TISSUE_HU[1] and spread <= LARGEST_SPREAD_HU:
                found.append((spread, row, column, place))
    return [place for _, _, _, place in sorted(found, key=lambda one: one[:3])[:MOST_REGIONS]]


def noise_power(hu: FloatArray, regions: list[tuple[slice, slice]]) -> NoisePower | None:
    """Spectrum of the regions without their slow trend; ``None`` for fewer than 4 regions.

    Args:
        hu: ``(rows, columns)`` HU.
        regions: From :func:`uniform_regions` of the reference, so that both images are judged at the same places.
    """
    if len(regions) < FEWEST_REGIONS:
        return None
    noise = _without_trend(np.stack([hu[place] for place in regions]).astype(np.float64))
    power = np.square(np.abs(np.fft.fft2(noise))).mean(axis=0) / REGION_PX**2  # HU² pixel², unit spacing
    radius = np.hypot(*np.meshgrid(np.fft.fftfreq(REGION_PX), np.fft.fftfreq(REGION_PX), indexing="ij"))
    rings = np.rint(radius * REGION_PX).astype(int)
    inside = rings <= REGION_PX // 2
    counts = np.bincount(rings[inside])
    by_ring = np.bincount(rings[inside], weights=power[inside]) / counts
    total = power.sum()
    return NoisePower(
        frequency=np.arange(len(by_ring)) / REGION_PX,
        power=by_ring,
        noise_hu=float(np.sqrt(total) / REGION_PX),
        mean_frequency=float((radius * power).sum() / total) if total > 0 else float("nan"),
    )


def _without_trend(regions: Floats) -> Floats:
    """Subtract from each region the quadratic surface that fits it best (AAPM TG-233)."""
    row, column = np.meshgrid(*[np.linspace(-1, 1, REGION_PX)] * 2, indexing="ij")
    surface = np.stack([row**p * column**q for p in range(3) for q in range(3 - p)], axis=-1).reshape(REGION_PX**2, -1)
    basis, _ = np.linalg.qr(surface)
    flat = regions.reshape(len(regions), -1)
    return (flat - flat @ basis @ basis.T).reshape(regions.shape)
