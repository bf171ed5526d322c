"""Quadtree mask: leaves in which detail is expected (arXiv 2503.12015, section 3.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from qdm_med.errors import ConfigError
from qdm_med.models.qdm.adaptive_quadtree import adaptive_quadtree_mask
from qdm_med.models.qdm.names import QuadtreeKind

LARGEST_THRESHOLD = 2.0
"""Width of the network's range."""


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold <= LARGEST_THRESHOLD:
        raise ConfigError(f"threshold must lie in [0, 2], the range of the network's values, got {threshold}")


@dataclass(frozen=True)
class PaperQuadtree:
    """Mask of the paper: one level of fixed blocks.

    Attributes:
        threshold: s, in network units; 0 marks every leaf.
    """

    threshold: float = 0.15

    kind: ClassVar[QuadtreeKind] = "paper"
    noise_factor: ClassVar[None] = None
    """It does not look at the noise."""
    in_patient_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Reject a threshold out of range."""
        _check_threshold(self.threshold)

    def leaves(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mark the active leaves of ``(B, C, H, W)`` on a grid of leaves, ``(B, rows, columns)`` bool."""
        return quadtree_mask(image, grid, threshold=self.threshold)


@dataclass(frozen=True)
class AdaptiveQuadtree:
    """Mask of several levels, whose blocks see their borders and whose threshold grows with the noise.

    Attributes:
        threshold: Smallest range worth refining in network units, whatever the noise.
        noise_factor: Multiple of the range expected of noise alone that a block's range must reach.
    """

    threshold: float = 0.4
    noise_factor: float = 1.3

    kind: ClassVar[QuadtreeKind] = "adaptive"

    def __post_init__(self) -> None:
        """Reject numbers out of range."""
        _check_threshold(self.threshold)
        if self.noise_factor < 0:
            raise ConfigError(f"noise factor must not be negative, got {self.noise_factor}")

    @property
    def in_patient_only(self) -> bool:
        """Whether leaves outside the patient are left out; none is where every leaf is to be refined."""
        return self.threshold > 0

    def leaves(self, image: Tensor, grid: tuple[int, int]) -> Tensor:
        """Mark the active leaves of ``(B, C, H, W)`` on a grid of leaves, ``(B, rows, columns)`` bool."""
        return adaptive_quadtree_mask(image, grid, threshold=self.threshold, noise_factor=self.noise_factor)


Quadtree = PaperQuadtree | AdaptiveQuadtree


def block_level(image_size: tuple[int, int], mask_size: tuple[int, int]) -> int:
    """Level of the quadtree whose blocks stand for one cell of the mask; at least 1 (blocks of 2 x 2).

    >>> block_level((128, 128), (64, 64)), block_level((64, 64), (64, 64)), block_level((64, 64), (16, 16))
    (1, 1, 2)
    """
    by_side = (int(math.log2(size / cells)) for size, cells in zip(image_size, mask_size, strict=True))
    return max(1, *by_side)


def quadtree_mask(image: Tensor, mask_size: tuple[int, int], *, threshold: float) -> Tensor:
    """Mark the cells whose block of the low-resolution image has a range of at least ``threshold``.

    The paper's single level of fixed blocks, exactly: an edge on a block border is not seen, an odd last row or column
    belongs to no block. The mask comes from the low-resolution image because at test time nothing else exists.

    Args:
        image: ``(B, C, H, W)`` low-resolution image in [-1, 1].
        mask_size: Rows and columns of the mask: the latent grid, or the downstream token grid.
        threshold: Smallest maximum-minus-minimum, averaged over channels, worth refining; 0 marks every cell.

    Returns:
        ``(B, rows, columns)`` bool, True where detail is expected.
    """
    height, width = image.shape[-2:]
    block = 2 ** block_level((height, width), mask_size)
    # One pixel has no 2 x 2 block: it is its own range of zero.
    block = min(block, height, width)
    spread = F.max_pool2d(image, block) + F.max_pool2d(-image, block)  # maximum minus minimum
    active = spread.mean(dim=1, keepdim=True) >= threshold
    return F.interpolate(active.to(image.dtype), size=mask_size, mode="nearest")[:, 0] > 0


def on_finer_grid(mask: Tensor, factor: int) -> Tensor:
    """``(..., H, W)`` mask -> ``(..., factor H, factor W)``: the same decision on a grid ``factor`` times as fine."""
    return mask.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
