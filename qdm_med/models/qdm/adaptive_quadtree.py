"""A quadtree of several levels that tells structure from noise: the alternative to the paper's single level.

The paper's mask looks at one level of fixed blocks: an edge on a block border is not seen, an odd last row belongs to no
block, and noise alone switches leaves on. Here a block is divided while its range exceeds
what its noise alone would show, from blocks of a window's size down to the leaves, and every block reaches one pixel
over its right and lower border, so that each pair of neighbouring pixels lies in one block.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import ndtr
from torch import Tensor

LEVELS = 4
"""Levels of the tree: leaves, and blocks of 2, 4 and 8 leaves a side (a downstream window)."""

AIR = -0.9
"""Network values below this are air (-860 HU in the companded range): their noise says nothing about tissue."""

LUNG = -0.5
"""Network values below this are lung (-200 HU in the companded range). Noise is measured below and above it: a network unit
is worth four times as many HU there, so the same noise in HU is a quarter in network units."""

QUIET_SHARE = 0.1
"""Share of the blocks that are taken to hold no structure: the quietest ones tell the noise."""

NOISE_BLOCK = 4
"""Side of the blocks whose noise is measured."""

QUIET_BIAS = 0.689
"""Root mean square of white noise of unit variance in the quietest tenth of such blocks (simulated)."""


def noise_level(image: Tensor, within: tuple[float, float]) -> Tensor:
    """Standard deviation of the noise of each image where its mean lies in a range, from the quietest places.

    The diagonal detail of the Haar transform sees noise and fine structure but no smooth anatomy; its root mean square
    in the quietest tenth of the blocks is the noise (a robust form of Donoho's estimate, Biometrika 1994).

    Args:
        image: ``(B, C, H, W)`` in [-1, 1].
        within: Smallest and largest mean of a block that counts.

    Returns:
        ``(B,)`` in network units; 0 where there is no such block.
    """
    height, width = image.shape[-2:]
    if min(height, width) <= NOISE_BLOCK:
        return image.new_zeros(len(image))
    corners = image[..., :-1, :-1] + image[..., 1:, 1:] - image[..., :-1, 1:] - image[..., 1:, :-1]
    detail = F.avg_pool2d((corners / 2).square(), NOISE_BLOCK).mean(dim=1).flatten(1).sqrt()  # (B, blocks)
    mean = F.avg_pool2d(image[..., :-1, :-1], NOISE_BLOCK).mean(dim=1).flatten(1)
    counted = (mean > within[0]) & (mean <= within[1])
    quietest = torch.nanquantile(torch.where(counted, detail, torch.nan).float(), QUIET_SHARE, dim=1)
    return quietest.nan_to_num(0.0).to(image.dtype) / QUIET_BIAS


@cache
def expected_range(count: int) -> float:
    """Expected maximum minus minimum of ``count`` independent standard normal numbers (the d2 of control charts).

    >>> [round(expected_range(count), 2) for count in (2, 4, 9)]
    [1.13, 2.06, 2.97]
    """
    x = np.linspace(-9, 9, 4001)
    below = ndtr(x)
    return float(np.trapezoid(1 - below**count - (1 - below) ** count, x))


def adaptive_quadtree_mask(
    image: Tensor, mask_size: tuple[int, int], *, threshold: float, noise_factor: float
) -> Tensor:
    """Mark the leaves whose block and whose ancestors' blocks show more than their noise.

    Args:
        image: ``(B, C, H, W)`` low-resolution image in [-1, 1].
        mask_size: Rows and columns of the leaves; a leaf is a whole number of image pixels.
        threshold: Smallest range, averaged over channels, worth refining, whatever the noise; 0 marks every leaf.
        noise_factor: A block's range must also reach this multiple of the range that its noise alone is expected to
            show; 0 ignores the noise.

    Returns:
        ``(B, rows, columns)`` bool, True where detail is expected.
    """
    rows, columns = mask_size
    # A side of one pixel has no room for a whole leaf: the other side tells its size.
    leaf = max(-(-image.shape[-2] // rows), -(-image.shape[-1] // columns))
    in_lung, in_tissue = (noise_level(image, within)[:, None, None] for within in ((AIR, LUNG), (LUNG, 1.0)))
    active = torch.ones((len(image), rows, columns), dtype=torch.bool, device=image.device)
    if threshold == 0:
        return active
    for level in reversed(range(LEVELS)):
        size = leaf * 2**level
        spread, mean = _block_range_and_mean(image, size)
        noise = torch.where(mean > LUNG, in_tissue, in_lung)
        divided = spread >= (noise_factor * expected_range((size + 1) ** 2) * noise).clamp(min=threshold)
        for axis in (1, 2):
            divided = divided.repeat_interleave(2**level, axis)
        active &= divided[:, :rows, :columns]
    return active


def _block_range_and_mean(image: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Range and mean of blocks that reach one pixel over their right and lower border.

    Returns:
        Two tensors ``(B, H / size, W / size)``, rounded up.
    """
    height, width = image.shape[-2:]
    padded = F.pad(image, (0, -width % size + 1, 0, -height % size + 1), mode="replicate")
    spread = F.max_pool2d(padded, size + 1, stride=size) + F.max_pool2d(-padded, size + 1, stride=size)
    return spread.mean(dim=1), F.avg_pool2d(padded, size + 1, stride=size).mean(dim=1)
