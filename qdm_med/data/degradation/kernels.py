"""Blur kernels of the Real-ESRGAN degradation (arXiv 2107.10833, section 3.1) and their application.

Kernels are ``(size, size)`` float64, sum to one, and are built from given numbers: nothing here is random.
Offsets count pixels from the middle of the kernel; the first axis is the row.
"""

from __future__ import annotations

import math

import scipy.special
import torch
import torch.nn.functional as F
from torch import Tensor


def gaussian_kernel(size: int, sigma_x: float, sigma_y: float, theta: float = 0.0, beta: float = 1.0) -> Tensor:
    """Gaussian ``exp(-(d^T S^-1 d)^beta / 2)``; a shape ``beta`` other than 1 makes it generalised.

    Args:
        size: Odd side in pixels.
        sigma_x: Standard deviation along the first principal axis, in pixels.
        sigma_y: Standard deviation along the second.
        theta: Angle of the principal axes in radians, from the column axis towards the row axis.
        beta: Shape; larger is flatter in the middle and steeper outside.
    """
    return _normalised(torch.exp(-0.5 * _squared_distance(size, sigma_x, sigma_y, theta) ** beta))


def plateau_kernel(size: int, sigma_x: float, sigma_y: float, theta: float, beta: float) -> Tensor:
    """Plateau-shaped ``1 / (1 + (d^T S^-1 d)^beta)``; arguments as for :func:`gaussian_kernel`."""
    return _normalised(1.0 / (1.0 + _squared_distance(size, sigma_x, sigma_y, theta) ** beta))


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """Circular low-pass ``w J1(w r) / (2 pi r)``, the impulse response of an ideal filter: it rings.

    Args:
        size: Odd side in pixels.
        cutoff: ``w``, highest frequency kept, in radians a pixel (at most pi).
    """
    row, column = _offsets(size)
    radius = torch.hypot(row, column)
    middle = radius == 0
    safe = radius.masked_fill(middle, 1.0)
    # torch.special.bessel_j1 is accurate to 1e-8 only.
    bessel = torch.from_numpy(scipy.special.j1((cutoff * safe).numpy()))
    kernel = cutoff * bessel / (2 * math.pi * safe)
    return _normalised(kernel.masked_fill(middle, cutoff**2 / (4 * math.pi)))


def pad_kernel(kernel: Tensor, size: int) -> Tensor:
    """Surround a kernel with zeros up to the odd side ``size``."""
    margin = (size - kernel.shape[-1]) // 2
    return F.pad(kernel, (margin, margin, margin, margin))


def filter_images(images: Tensor, kernels: Tensor) -> Tensor:
    """Correlate every image with its own kernel, borders reflected.

    Args:
        images: ``(B, C, H, W)``, sides larger than half a kernel.
        kernels: ``(B, k, k)`` with odd ``k``.

    Returns:
        ``(B, C, H, W)`` in the type of ``images``.
    """
    batch, channels, height, width = images.shape
    margin = kernels.shape[-1] // 2
    padded = F.pad(images, (margin, margin, margin, margin), mode="reflect")
    stacked = padded.reshape(1, batch * channels, *padded.shape[-2:])
    weight = kernels.to(images).repeat_interleave(channels, dim=0)[:, None]  # (B * C, 1, k, k)
    return F.conv2d(stacked, weight, groups=batch * channels).reshape(batch, channels, height, width)


def _offsets(size: int) -> tuple[Tensor, Tensor]:
    if size % 2 == 0 or size < 1:
        raise ValueError(f"side of a blur kernel must be odd and positive, got {size}")
    offset = torch.arange(size, dtype=torch.float64) - size // 2
    row, column = torch.meshgrid(offset, offset, indexing="ij")
    return row, column


def _squared_distance(size: int, sigma_x: float, sigma_y: float, theta: float) -> Tensor:
    row, column = _offsets(size)
    first = math.cos(theta) * column + math.sin(theta) * row
    second = math.cos(theta) * row - math.sin(theta) * column
    return (first / sigma_x) ** 2 + (second / sigma_y) ** 2


def _normalised(kernel: Tensor) -> Tensor:
    return kernel / kernel.sum()
