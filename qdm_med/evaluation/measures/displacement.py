"""Displacement of an image against the reference: half a pixel lost between conventions is CT's commonest error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.registration import phase_cross_correlation

from qdm_med.volume import FloatArray

FINEST_PX = 0.05
"""Resolution of the estimate in pixels."""


def displacement(hu: FloatArray, reference_hu: FloatArray) -> tuple[float, float]:
    """Shift of the image against the reference, (rows, columns) in pixels, positive towards larger indices.

    The maximum of the cross-correlation, by an upsampled Fourier transform (Guizar-Sicairos et al., Opt. Lett. 33, 2008).
    NaN for images without content. HU are clipped to the soft-tissue window's surroundings, so that metal does not decide.
    """
    images = [np.clip(image, -1024.0, 400.0).astype(np.float64) for image in (reference_hu, hu)]
    if any(np.ptp(image) == 0 for image in images):
        return float("nan"), float("nan")
    reference, moved = (_tapered(image - image.mean()) for image in images)
    shift, _, _ = phase_cross_correlation(  # type: ignore[no-untyped-call]  # scikit-image
        reference, moved, upsample_factor=round(1 / FINEST_PX), normalization=None
    )
    return float(-shift[0]), float(-shift[1])


def _tapered(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Fade an image out towards the border, where the Fourier transform would see an edge."""
    rows, columns = (np.hanning(side + 2)[1:-1] for side in image.shape)
    tapered: NDArray[np.float64] = image * rows[:, None] * columns
    return tapered
