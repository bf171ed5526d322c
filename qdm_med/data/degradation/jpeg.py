"""JPEG as a degradation: the lossy part (ITU-T T.81 annexes A and K) without the file.

The colour transform, chroma subsampling, 8 x 8 DCT, quantisation and back, in float32. One channel is treated as
luminance, which is what an equal-channel colour image gives.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8
_MCU = 16
"""Side of a colour coding unit: two blocks, because chroma has half the resolution."""

_LUMINANCE_TABLE = torch.tensor(
    [
        [16, 12, 14, 14, 18, 24, 49, 72],
        [11, 12, 13, 17, 22, 35, 64, 92],
        [10, 14, 16, 22, 37, 55, 78, 95],
        [16, 19, 24, 29, 56, 64, 87, 98],
        [24, 26, 40, 51, 68, 81, 103, 112],
        [40, 58, 57, 87, 109, 104, 121, 100],
        [51, 60, 69, 80, 103, 113, 120, 103],
        [61, 55, 56, 62, 77, 92, 101, 99],
    ],
    dtype=torch.float32,
)
"""ITU-T T.81, table K.1, transposed: the benchmarks of the paper were made with rows and columns exchanged."""

_CHROMINANCE_TABLE = torch.tensor(
    [
        [17, 18, 24, 47, 99, 99, 99, 99],
        [18, 21, 26, 66, 99, 99, 99, 99],
        [24, 26, 56, 99, 99, 99, 99, 99],
        [47, 66, 99, 99, 99, 99, 99, 99],
        *[[99] * 8] * 4,
    ],
    dtype=torch.float32,
)
"""ITU-T T.81, table K.2."""

_TO_YCBCR = torch.tensor(
    [[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=torch.float32
)
"""JFIF 1.02; chroma without its offset of 128."""

_TO_RGB = torch.tensor([[1.0, 0.0, 1.402], [1.0, -0.344136, -0.714136], [1.0, 1.772, 0.0]], dtype=torch.float32)


def _dct_matrix() -> Tensor:
    """``(frequency, sample)`` orthonormal DCT-II of eight samples (T.81, A.3.3)."""
    frequency = torch.arange(_BLOCK, dtype=torch.float64)[:, None]
    sample = torch.arange(_BLOCK, dtype=torch.float64)[None]
    matrix = torch.cos((2 * sample + 1) * frequency * math.pi / (2 * _BLOCK)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.float()


_DCT = _dct_matrix()


def jpeg_round_trip(image: Tensor, quality: float) -> Tensor:
    """Compress and decompress an image.

    Args:
        image: ``(C, H, W)`` in [0, 1]; one channel or three (RGB, chroma stored at half resolution).
        quality: 1 to 100 in the scale of the Independent JPEG Group; need not be whole.

    Returns:
        ``(C, H, W)`` in [0, 1].
    """
    channels, height, width = image.shape
    if channels not in (1, 3):
        raise ValueError(f"JPEG needs one channel or three, got {channels}")
    scaling = (5000.0 / quality if quality < 50 else 200.0 - 2.0 * quality) / 100.0
    unit = _BLOCK if channels == 1 else _MCU
    padded = F.pad(image * 255.0, (0, -width % unit, 0, -height % unit))
    decoded = _grey_round_trip(padded, scaling) if channels == 1 else _colour_round_trip(padded, scaling)
    return (decoded[:, :height, :width] / 255.0).clamp(0.0, 1.0)


def _grey_round_trip(pixels: Tensor, scaling: float) -> Tensor:
    return _code_plane(pixels - 128.0, _LUMINANCE_TABLE, scaling) + 128.0


def _colour_round_trip(pixels: Tensor, scaling: float) -> Tensor:
    luminance, blue, red = torch.einsum("oc,chw->ohw", _TO_YCBCR.to(pixels), pixels)
    chroma = F.avg_pool2d(torch.stack([blue, red])[:, None], 2)[:, 0]
    luminance = _code_plane(luminance[None] - 128.0, _LUMINANCE_TABLE, scaling) + 128.0
    chroma = _code_plane(chroma, _CHROMINANCE_TABLE, scaling)
    chroma = chroma.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    return torch.einsum("oc,chw->ohw", _TO_RGB.to(pixels), torch.cat([luminance, chroma]))


def _code_plane(planes: Tensor, table: Tensor, scaling: float) -> Tensor:
    """Quantise ``(N, H, W)`` planes in the DCT domain; sides are multiples of eight, values centred on zero."""
    count, height, width = planes.shape
    dct, step = _DCT.to(planes), table.to(planes) * scaling
    # (N, H / 8, W / 8, 8, 8)
    blocks = planes.reshape(count, height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK).transpose(2, 3)
    coefficients = dct @ blocks @ dct.T
    restored = dct.T @ (torch.round(coefficients / step) * step) @ dct
    return restored.transpose(2, 3).reshape(count, height, width)
