"""Hallucination by local Fourier ring correlation: scanning FRC, sFRC (FDA; arXiv 2603.04673).

Image and reference are compared patch by patch and ring by ring of the Fourier plane. A patch is flagged if, at a
frequency that the method had been shown, it correlates too little with the reference and differs from it by too much.

How much is too much is measured on interpolation of the same low-resolution slice, which loses but cannot invent: it is
flagged in one patch of a hundred, see :data:`LIMIT_HU`. A flagged patch is unsupported if that interpolation comes much
closer to the reference there: neither the truth nor the input holds what the image shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import ConfigError
from qdm_med.volume import FloatArray

Floats = NDArray[np.float64]

PATCH_PX = 32
STRIDE_PX = 16
LEVEL = 0.5
"""Correlation below which a ring says something else."""
KNOWN_SHARE = 0.5
"""Frequencies up to this share of the low-resolution slice's Nyquist frequency are what the method has been shown."""
FALSE_ALARMS = 0.01
"""Share of patches that :data:`LIMIT_HU` flags where nothing can have been invented."""
LIMIT_HU: Mapping[int, float] = MappingProxyType({4: 52.0, 8: 96.0})
"""Scale -> root mean square difference in HU over the rings shown, above which an uncorrelated patch is flagged.
Measured by ``tools/hallucination_limits.py`` as the quantile 1 - :data:`FALSE_ALARMS` over the patches of bicubic
interpolation (52,000 at x4 and 53,000 at x8, of 66 slices of the 42 patients of the training split, up to 2 slices each,
degraded as the benchmarks' are).
"""
BETTER_CORRELATED = 0.6
CLOSER = 2.0
"""A flagged patch is unsupported if interpolation of the input correlates with the reference by so much more, or differs
from it so many times less. Chosen so that nodules and erased vessels planted into real slices are rarely missed for it."""


@dataclass(frozen=True)
class Box:
    """A flagged patch.

    Attributes:
        row: First row in pixels.
        column: First column in pixels.
        side: Rows and columns.
        correlation: Lowest correlation of a ring that the method had been shown.
        difference_hu: Root mean square difference over those rings.
        shown_correlation: Lowest correlation, likewise, of the interpolated input.
        shown_difference_hu: Difference, likewise, of the interpolated input.
    """

    row: int
    column: int
    side: int
    correlation: float
    difference_hu: float
    shown_correlation: float
    shown_difference_hu: float

    @property
    def unsupported(self) -> bool:
        """Whether the interpolated input comes much closer to the reference in structure or in HU."""
        better_correlated = self.shown_correlation - self.correlation > BETTER_CORRELATED
        return better_correlated or self.difference_hu > CLOSER * self.shown_difference_hu


@dataclass(frozen=True)
class Hallucinations:
    """Result of a scan for hallucinations.

    Attributes:
        boxes: Flagged patches.
        patches: Patches scanned: those that are not air throughout.
    """

    boxes: tuple[Box, ...]
    patches: int

    @property
    def share(self) -> float:
        """Share of flagged patches among the scanned, 0 to 1; NaN where none was scanned."""
        return len(self.boxes) / self.patches if self.patches else float("nan")

    @property
    def unsupported(self) -> int:
        """Flagged patches where the interpolated input comes much closer to the reference."""
        return sum(box.unsupported for box in self.boxes)


@dataclass(frozen=True)
class Scan:
    """Patches of an image compared with those of the reference.

    Attributes:
        places: First row and first column of each.
        correlation: ``(N,)`` lowest correlation of a ring that the method had been shown.
        difference_hu: ``(N,)`` root mean square difference over those rings.
    """

    places: tuple[tuple[int, int], ...]
    correlation: Floats
    difference_hu: Floats

    def uncorrelated_hu(self) -> Floats:
        """``(N,)`` difference of patches whose rings do not correlate, else 0; the limits are measured on it."""
        return np.where(self.correlation < LEVEL, self.difference_hu, 0.0)

    def values(self, patch: int) -> tuple[float, float]:
        """Correlation and difference of one patch."""
        return float(self.correlation[patch]), float(self.difference_hu[patch])


def find_hallucinations(
    hu: FloatArray, reference_hu: FloatArray, interpolated_hu: FloatArray, scale: int
) -> Hallucinations:
    """Flag patches of an image that show something else than the reference.

    Args:
        hu: ``(rows, columns)`` super-resolved HU.
        reference_hu: ``(rows, columns)`` true HU.
        interpolated_hu: ``(rows, columns)`` HU of the low-resolution slice, interpolated.
        scale: Magnification: which frequencies the method had been shown.

    Raises:
        ConfigError: If no limit was measured for the scale.
    """
    if scale not in LIMIT_HU:
        known = ", ".join(f"x{each}" for each in LIMIT_HU)
        raise ConfigError(f"hallucination has limits for {known}, not for x{scale}; leave fidelity out")
    places = _places(hu, reference_hu)
    found = scan(hu, reference_hu, scale, places)
    flagged = np.flatnonzero(found.uncorrelated_hu() > LIMIT_HU[scale]).tolist()
    shown = scan(interpolated_hu, reference_hu, scale, tuple(places[one] for one in flagged))
    boxes = (
        Box(*places[one], PATCH_PX, *found.values(one), *shown.values(number)) for number, one in enumerate(flagged)
    )
    return Hallucinations(tuple(boxes), len(places))


def scan(
    hu: FloatArray, reference_hu: FloatArray, scale: int, places: tuple[tuple[int, int], ...] | None = None
) -> Scan:
    """Compare two images of the same size patch by patch.

    Args:
        hu: ``(rows, columns)`` HU.
        reference_hu: ``(rows, columns)`` true HU.
        scale: Magnification: which frequencies the method had been shown.
        places: First rows and columns of the patches; ``None``: all that are not air in both.
    """
    if places is None:
        places = _places(hu, reference_hu)
    if not places:
        return Scan((), np.empty(0), np.empty(0))
    spectra, reference = (_spectra(np.stack([_patch(one, at) for at in places])) for one in (hu, reference_hu))
    rings = rings_shown(scale)
    correlation = ring_correlation(spectra, reference)[:, 1 : 1 + rings].min(axis=1)
    return Scan(places, correlation, _band_rms(spectra - reference, rings))


def _places(hu: FloatArray, reference_hu: FloatArray) -> tuple[tuple[int, int], ...]:
    """Places of the patches that are not air throughout."""
    every = ((row, column) for row in _starts(hu.shape[0]) for column in _starts(hu.shape[1]))
    return tuple(at for at in every if max(_patch(hu, at).max(), _patch(reference_hu, at).max()) > AIR_HU)


AIR_HU = -900.0
"""A patch that has nothing above this in either image is air."""


def rings_shown(scale: int) -> int:
    """Number of rings of a patch's spectrum, one cycle a patch apart, that the input of a method at ``scale`` holds.

    >>> rings_shown(4), rings_shown(8)
    (2, 1)
    """
    nyquist = 0.5 / scale
    return max(1, int(KNOWN_SHARE * nyquist * PATCH_PX))


def ring_correlation(spectra: NDArray[np.complex128], reference: NDArray[np.complex128]) -> Floats:
    """Fourier ring correlation of each patch with the reference's.

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
    """Fourier transforms of patches without their means, faded out towards their borders."""
    centred = patches.astype(np.float64)
    centred -= (centred * _WINDOW).sum(axis=(1, 2), keepdims=True) / _WINDOW.sum()
    return np.fft.fft2(centred * _WINDOW)


def _band_rms(spectra: NDArray[np.complex128], rings: int) -> Floats:
    """Root mean square in HU over the rings 0 to ``rings``, corrected for the fading on the average."""
    inside = _rings(spectra.shape[-1]) <= rings
    power = np.square(np.abs(spectra[:, inside])).sum(axis=1) / spectra.shape[-1] ** 2
    return np.sqrt(power / np.square(_WINDOW).sum())
