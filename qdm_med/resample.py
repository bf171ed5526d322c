"""Resampling with the outer edges of images in place: the first coarse pixel covers the first fine ones."""

from __future__ import annotations

from functools import reduce
from typing import Any, TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from qdm_med.volume import FloatArray

LANCZOS_TAPS = 3
"""Zero crossings of the Lanczos window on each side, in low-resolution pixels."""

Scalar = TypeVar("Scalar", bound=np.floating[Any])


def area_mean(image: NDArray[Any], shape: tuple[int, int]) -> FloatArray:
    """Average an image over the area of each pixel of a coarser grid on the same field of view.

    A source pixel on the border of two new ones counts in each by the share of its area there, so that the result is the
    exact mean of the image, taken as constant within its pixels, at any ratio of the sides. (PyTorch's ``area`` counts it
    in both as a whole: at 768 to 512 that moves edges by a tenth of a pixel.)

    >>> area_mean(np.array([[0.0, 3.0, 9.0]]), (1, 2)).tolist()
    [[1.0, 7.0]]

    Args:
        image: ``(rows, columns)`` of any unit.
        shape: New rows and columns, at most those of the image.

    Returns:
        ``shape`` float32 in the unit of the image.

    Raises:
        ValueError: If ``shape`` is larger than the image along a side: a mean cannot enlarge.
    """
    if any(new > old or new < 1 for new, old in zip(shape, image.shape, strict=True)):
        raise ValueError(f"an area mean cannot turn {image.shape} into {shape}; give sides from 1 to the image's")
    rows, columns = (_overlaps(old, new) for old, new in zip(image.shape, shape, strict=True))
    return (rows @ image.astype(np.float64) @ columns.T).astype(np.float32)


def _overlaps(old: int, new: int) -> NDArray[np.float64]:
    """Shares of the old pixels in each new one, ``(new, old)``; rows sum to 1."""
    edges = np.arange(new + 1) * (old / new)  # in old pixels
    pixel = np.arange(old)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(overlap, 0.0, None) * (new / old)


def block_mean(fine: NDArray[Scalar], scale: int) -> NDArray[Scalar]:
    """Average each ``scale`` by ``scale`` block, ``(scale rows, scale columns)`` -> ``(rows, columns)``."""
    # Whole columns and rows are added: reducing over the blocks would take seven times as long.
    by_column = reduce(np.add, (fine[:, offset::scale] for offset in range(scale)))
    total = reduce(np.add, (by_column[offset::scale] for offset in range(scale)))
    return np.asarray(total / scale**2, dtype=fine.dtype)


def upsample(low_res: Tensor, scale: int) -> Tensor:
    """Magnify by bicubic interpolation, the outer edges in place, ``(B, C, H, W)`` -> ``(B, C, scale H, scale W)``."""
    return F.interpolate(low_res, scale_factor=scale, mode="bicubic", align_corners=False)


def bicubic(low_res: Tensor, scale: int) -> Tensor:
    """Enlarge ``(B, C, H, W)`` in [-1, 1] by cubic convolution (a = -0.75, as in PyTorch and OpenCV), clamped."""
    return upsample(low_res, scale).clamp(-1.0, 1.0)


def lanczos(low_res: Tensor, scale: int) -> Tensor:
    """Enlarge ``(B, C, H, W)`` in [-1, 1] by the three-lobed Lanczos kernel, clamped.

    Taps beyond the border are left out and the others renormalised, as Pillow does.
    """
    rows = _lanczos_matrix(low_res.shape[-2], scale).to(low_res)
    columns = _lanczos_matrix(low_res.shape[-1], scale).to(low_res)
    return (rows @ low_res @ columns.T).clamp(-1.0, 1.0)


def _lanczos_matrix(length: int, scale: int) -> Tensor:
    """Weights of the source pixels in every output pixel, ``(length * scale, length)`` float64."""
    centre = (np.arange(length * scale) + 0.5) / scale - 0.5
    distance = centre[:, None] - np.arange(length)
    weight = np.sinc(distance) * np.sinc(distance / LANCZOS_TAPS) * (np.abs(distance) < LANCZOS_TAPS)
    return torch.from_numpy(weight / weight.sum(axis=1, keepdims=True))
