"""Interpolation baselines every method is compared with; pixel edges stay where they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qdm_med.models.conditioning import upsample

LANCZOS_TAPS = 3
"""Zero crossings of the Lanczos window on each side, in low-resolution pixels."""


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
    """``(length * scale, length)`` float64 weights of the source pixels in every output pixel."""
    centre = (np.arange(length * scale) + 0.5) / scale - 0.5
    distance = centre[:, None] - np.arange(length)
    weight = np.sinc(distance) * np.sinc(distance / LANCZOS_TAPS) * (np.abs(distance) < LANCZOS_TAPS)
    return torch.from_numpy(weight / weight.sum(axis=1, keepdims=True))
