"""Scan a drawing made on a fine grid: point spread, average over source pixels, noise as CT kernels make it, whole HU.

Lengths are in source pixels and so is every point spread: a CT image is sampled finely or coarsely for what its kernel
passes, and that ratio, not the millimetres, is what a network sees.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from qdm_med.intensity import HU_MAX, HU_MIN
from qdm_med.resample import block_mean
from qdm_med.volume import BoolArray, FloatArray

Floats = NDArray[np.float64]

FWHM_OF_SIGMA = 2.3548
"""Full width at half maximum of a Gaussian of standard deviation 1."""

STREAK_WIDTH = 0.35
"""Sine of the angle within which most of the power of directed noise lies: 20 degrees."""

STREAK_FLOOR = 0.15
"""Amplitude that is left of directed noise across its direction."""


@dataclass(frozen=True)
class FineGrid:
    """Fine pixels over a square of source pixels.

    Attributes:
        side: Source pixels along a side.
        scale: Fine pixels along a source pixel.
    """

    side: int
    scale: int

    @property
    def rows(self) -> Floats:
        """``(side scale, 1)`` place of each row in source pixels; 0 is the centre of the first source pixel."""
        return (np.arange(self.side * self.scale)[:, None] + 0.5) / self.scale - 0.5

    @property
    def columns(self) -> Floats:
        """``(1, side scale)`` place of each column."""
        return self.rows.T

    def disc(self, row: float, column: float, radius: float) -> BoolArray:
        """Mark the pixels of a disc."""
        inside: BoolArray = (self.rows - row) ** 2 + (self.columns - column) ** 2 < radius**2
        return inside

    def flat(self, hu: float) -> Floats:
        """Make a slice of one value."""
        return np.full((self.side * self.scale,) * 2, hu)


@dataclass(frozen=True)
class Scan:
    """Settings of a scan: its point spread and its noise.

    Attributes:
        fwhm: Full width at half maximum of the point spread in source pixels; 0: the average over the pixel alone.
        noise_hu: Standard deviation of the noise.
        noise_fwhm: Width that shapes the noise; ``None``: that of the point spread.
        direction: Angle in radians across which the noise has its power, as behind shoulders; ``None``: it has none.
    """

    fwhm: float
    noise_hu: float = 0.0
    noise_fwhm: float | None = None
    direction: float | None = None


def scanned(truth: Floats, scale: int, scan: Scan, rng: np.random.Generator) -> FloatArray:
    """Scan a truth.

    Args:
        truth: ``(scale rows, scale columns)`` HU.
        scale: Fine pixels along a source pixel.
        scan: Point spread and noise of the scan.
        rng: Of the noise.

    Returns:
        ``(rows, columns)`` float32, whole HU within the 12-bit range.
    """
    spread = gaussian_filter(truth, scan.fwhm / FWHM_OF_SIGMA * scale, mode="nearest") if scan.fwhm else truth
    low = block_mean(spread, scale)
    if scan.noise_hu:
        width = scan.fwhm if scan.noise_fwhm is None else scan.noise_fwhm
        low = low + scan.noise_hu * kernel_noise(low.shape, width, rng, direction=scan.direction)
    return np.clip(np.rint(low), HU_MIN, HU_MAX).astype(np.float32)


def kernel_noise(
    shape: tuple[int, int], fwhm: float, rng: np.random.Generator, *, direction: float | None = None
) -> Floats:
    """Noise of unit variance with the power ``f MTF(f)^2`` of filtered back-projection (Riederer, Pelc, Chesler 1978).

    Args:
        shape: Rows and columns.
        fwhm: Of the kernel's Gaussian in pixels.
        rng: Source of its noise.
        direction: As in :class:`Scan`.
    """
    by_row, by_column = np.meshgrid(*(np.fft.fftfreq(length) for length in shape), indexing="ij")
    frequency = np.hypot(by_row, by_column)
    response = np.sqrt(frequency) * np.exp(-2 * (np.pi * fwhm / FWHM_OF_SIGMA * frequency) ** 2)
    if direction is not None:
        off_axis = np.sin(np.arctan2(by_row, by_column) - direction)
        response *= STREAK_FLOOR + np.exp(-((off_axis / STREAK_WIDTH) ** 2))
    noise: Floats = np.fft.ifft2(np.fft.fft2(rng.standard_normal(shape)) * response).real
    return noise / noise.std()
