"""Hallucination by local Fourier ring correlation: scanning FRC, sFRC (FDA; arXiv 2603.04673).

Image and reference are compared patch by patch and ring by ring of the Fourier plane. A patch whose correlation falls
below a level at a frequency that the method had been shown holds something else than the reference does there.

Level, share and quiet difference were set on phantoms and on 7 validation slices at x4 and x8: the true slice unchanged,
shifted by 10 HU or half a pixel, or with 20 HU more noise raises no box; a nodule of 600 HU and 6 pixels radius painted
into lung is boxed every time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdm_med.volume import FloatArray

Floats = NDArray[np.float64]

PATCH_PX = 32
STRIDE_PX = 16
LEVEL = 0.5
"""Correlation below which a ring says something else."""
KNOWN_SHARE = 0.5
"""Frequencies up to this share of the low-resolution slice's Nyquist frequency are what the method has been shown."""
QUIET_HU = 40.0
"""A patch whose images differ less than this (root mean square over the rings shown) is no hallucination but noise."""


@dataclass(frozen=True)
class Box:
    """A flagged patch.

    Attributes:
        row: First row in pixels.
        column: First column in pixels.
        side: Rows and columns.
        correlation: Lowest correlation of a ring that the method had been shown.
        difference_hu: Root mean square difference over those rings.
    """

    row: int
    column: int
    side: int
    correlation: float
    difference_hu: float


@dataclass(frozen=True)
class Hallucinations:
    """What a scan found.

    Attributes:
        boxes: Flagged patches.
        patches: Patches scanned: those that are not air throughout.
    """

    boxes: tuple[Box, ...]
    patches: int

    @property
    def share(self) -> float:
        """Flagged patches among the scanned, 0 to 1; NaN where none was scanned."""
        return len(self.boxes) / self.patches if self.patches else float("nan")


def find_hallucinations(hu: FloatArray, reference_hu: FloatArray, scale: int) -> Hallucinations:
    """Scan two images of the same size.

    Args:
        hu: ``(rows, columns)`` super-resolved HU.
        reference_hu: ``(rows, columns)`` true HU.
        scale: Magnification: which frequencies the method had been shown.
    """
    starts = [(row, column) for row in _starts(hu.shape[0]) for column in _starts(hu.shape[1])]
    if not starts:
        return Hallucinations((), 0)
    pairs = [np.stack([_patch(image, place) for place in starts]) for image in (hu, reference_hu)]
    scanned = np.maximum(pairs[0].max(axis=(1, 2)), pairs[1].max(axis=(1, 2))) > AIR_HU
    spectra, reference = (_spectra(patches[scanned]) for patches in pairs)
    correlation = ring_correlation(spectra, reference)
    shown = slice(1, 1 + rings_shown(scale))
    lowest = correlation[:, shown].min(axis=1, initial=1.0)
    difference = _band_rms(spectra - reference, rings_shown(scale))
    flagged = np.flatnonzero((lowest < LEVEL) & (difference > QUIET_HU))
    kept = [place for place, used in zip(starts, scanned, strict=True) if used]
    boxes = (Box(*kept[one], PATCH_PX, float(lowest[one]), float(difference[one])) for one in flagged)
    return Hallucinations(tuple(boxes), len(kept))


AIR_HU = -900.0
"""A patch that has nothing above this in either image is air."""


def rings_shown(scale: int) -> int:
    """Rings of a patch's spectrum, one cycle a patch apart, that a method at ``scale`` has been shown; at least 2.

    >>> rings_shown(4), rings_shown(8)
    (2, 2)
    """
    nyquist = 0.5 / scale
    return max(2, int(KNOWN_SHARE * nyquist * PATCH_PX))


def ring_correlation(spectra: NDArray[np.complex128], reference: NDArray[np.complex128]) -> Floats:
    """Fourier ring correlation of each patch.

    Args:
        spectra: ``(N, side, side)`` Fourier transforms.
        reference: As ``spectra``.

    Returns:
        ``(N, side / 2 + 1)`` in [-1, 1], by ring of one cycle a patch; 1 where both are silent.
    """
    rings = _rings(spectra.shape[-1])
    count = spectra.shape[-1] // 2 + 1
    together, own, other = (
        np.stack([power[:, rings == ring].sum(axis=1) for ring in range(count)], axis=1)
        for power in ((spectra * reference.conj()).real, np.abs(spectra) ** 2, np.abs(reference) ** 2)
    )
    norm = np.sqrt(own * other)
    return np.where(norm > 0, together / np.where(norm > 0, norm, 1.0), np.where(own == other, 1.0, 0.0))


def _rings(side: int) -> NDArray[np.int64]:
    frequency = np.fft.fftfreq(side) * side
    return np.rint(np.hypot(frequency[:, None], frequency)).astype(np.int64)


def _starts(length: int) -> range:
    return range(0, length - PATCH_PX + 1, STRIDE_PX)


def _patch(image: FloatArray, place: tuple[int, int]) -> FloatArray:
    row, column = place
    return image[row : row + PATCH_PX, column : column + PATCH_PX]


_WINDOW = np.outer(*[np.hanning(PATCH_PX + 2)[1:-1]] * 2)


def _spectra(patches: FloatArray) -> NDArray[np.complex128]:
    """Fourier transforms of the patches, faded out towards their borders, without their means."""
    centred = patches.astype(np.float64)
    centred -= (centred * _WINDOW).sum(axis=(1, 2), keepdims=True) / _WINDOW.sum()
    return np.fft.fft2(centred * _WINDOW)


def _band_rms(spectra: NDArray[np.complex128], rings: int) -> Floats:
    """Root mean square in HU over the rings 0 to ``rings``, the fading undone on the average."""
    inside = _rings(spectra.shape[-1]) <= rings
    power = np.square(np.abs(spectra[:, inside])).sum(axis=1) / spectra.shape[-1] ** 2
    return np.sqrt(power / np.square(_WINDOW).sum())
