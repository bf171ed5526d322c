"""Padding is not anatomy: it is filled before the network and put back by the writer."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt

from qdm_med.volume import BoolArray, FloatArray


def fill_padding(hu: FloatArray, padding: BoolArray) -> FloatArray:
    """Replace padding by the value of the nearest pixel of anatomy.

    A network that sees -2048 HU beside anatomy paints a dark halo into the anatomy (DICOM.md section 4).

    Args:
        hu: ``(rows, columns)`` HU.
        padding: ``(rows, columns)`` bool, True where there is no anatomy.

    Returns:
        ``(rows, columns)`` HU; a slice without any anatomy comes back as air, -1000 HU.
    """
    if not padding.any():
        return hu
    if padding.all():
        return np.full_like(hu, -1000.0)
    rows, columns = distance_transform_edt(padding, return_distances=False, return_indices=True)
    filled: FloatArray = hu[rows, columns]
    return filled
