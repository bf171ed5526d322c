"""Noise of a slice, measured from the slice alone."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import convolve

from qdm_med.volume import FloatArray

_SECOND_DIFFERENCES = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
_NORMAL_MEDIAN = 0.6745
"""Median magnitude of a standard normal variable."""


def noise_hu(source: FloatArray) -> float:
    """Standard deviation of a slice's pixel noise in HU, from the median magnitude of its second differences.

    The mask cancels constants, slopes and edges along rows or columns (Immerkær, Comput. Vis. Image Underst. 64, 1996);
    the median takes the rest of the structure out. 0 for slices below 3 x 3 pixels.
    """
    if min(source.shape) < 3:
        return 0.0
    response = convolve(source.astype(np.float64), _SECOND_DIFFERENCES, mode="nearest")[1:-1, 1:-1]
    return float(np.median(np.abs(response)) / (_NORMAL_MEDIAN * np.sqrt(np.square(_SECOND_DIFFERENCES).sum())))
