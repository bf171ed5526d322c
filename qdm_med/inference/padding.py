"""Padding, which is no anatomy: it is filled before the networks and put back by the writer.

And pixels beyond the border of a slice do not exist: where the networks need some, the slice is reflected.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

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


def in_whole_windows(image: Tensor, side: int) -> Tensor:
    """Reflect an image at its lower and right border until both sides are whole windows.

    The networks were trained on whole windows. Of the rest of one they see what they would pad themselves, a smear of
    the last row or column, for which they answer up to 130 HU wrong in the anatomy beside it.

    Args:
        image: ``(..., rows, columns)``, of any sides from 1.
        side: Side of a window in pixels.

    Returns:
        ``(..., rows, columns)`` with both rounded up to multiples of ``side``; ``image`` itself if they are.
    """
    rows, columns = image.shape[-2:]
    if rows % side == 0 and columns % side == 0:
        return image
    down, right = (torch.from_numpy(_reflected(length, -length % side)) for length in (rows, columns))
    return image.index_select(-2, down.to(image.device)).index_select(-1, right.to(image.device))


def _reflected(length: int, more: int) -> NDArray[np.int64]:
    """Indices of ``length`` pixels and of ``more`` behind them, reflected about the last as often as needed.

    >>> _reflected(3, 5).tolist(), _reflected(1, 2).tolist()
    ([0, 1, 2, 1, 0, 1, 2, 1], [0, 0, 0])
    """
    return np.pad(np.arange(length), (0, more), mode="reflect" if length > 1 else "edge")
