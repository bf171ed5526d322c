"""Conditioning of the denoiser on a low-resolution image: one recipe for training, inference and benchmarks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.models.autoencoder.interface import Autoencoder
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.network import LatentNetwork
from qdm_med.models.qdm.quadtree import Quadtree, on_finer_grid
from qdm_med.models.qdm.windows import WindowPlan
from qdm_med.resample import upsample


@dataclass(frozen=True)
class Conditioning:
    """A batch of low-resolution images, prepared for the diffusion.

    Attributes:
        low_res: ``(B, 1, H, W)`` in [-1, 1].
        z_y: ``(B, C, h, w)`` latent of the bicubically upsampled image.
        leaves: ``(B, h / 2, w / 2)`` bool active leaves of the quadtree, sides rounded up.
        mask: ``(B, 1, h, w)`` bool, where noise is added: the leaves on the latent grid, or all of it.
        plan: Windows of the downstream.
    """

    low_res: Tensor
    z_y: Tensor
    leaves: Tensor
    mask: Tensor
    plan: WindowPlan


def leaf_grid(size: tuple[int, int], scale: int, patch: int) -> tuple[int, int]:
    """Rows and columns of the leaves of a low-resolution image, rounded up.

    >>> leaf_grid((128, 128), 4, 2), leaf_grid((17, 23), 8, 2)
    ((64, 64), (17, 23))

    Args:
        size: Rows and columns of the low-resolution image.
        scale: Magnification, a multiple of the autoencoder's downsampling, 4.
        patch: Side of a leaf in latent pixels.
    """
    if scale % DOWNSAMPLING:
        raise ValueError(f"scale must be a multiple of {DOWNSAMPLING}, got {scale}")
    rows, columns = (-(-side * (scale // DOWNSAMPLING) // patch) for side in size)
    return rows, columns


def active_leaves(low_res: Tensor, quadtree: Quadtree, grid: tuple[int, int], within: Tensor | None = None) -> Tensor:
    """Mark the leaves that the quadtree finds and that touch a pixel of ``within``.

    Args:
        low_res: ``(B, 1, H, W)`` in [-1, 1].
        quadtree: Rule for the active leaves.
        grid: Rows and columns of the leaves, from :func:`leaf_grid`.
        within: ``(B, 1, H, W)`` bool; ``None``: everywhere.

    Returns:
        ``(B, rows, columns)`` bool.
    """
    leaves = quadtree.leaves(low_res, grid)
    if within is None:
        return leaves
    return leaves & (F.adaptive_max_pool2d(within.to(low_res.dtype), grid)[:, 0] > 0)


def condition(
    autoencoder: Autoencoder, denoiser: LatentNetwork, low_res: Tensor, leaves: Tensor, *, scale: int
) -> Conditioning:
    """Encode the upsampled image and lay the active leaves on every grid that needs them.

    The leaves are decided once, on the downstream token grid; the noise mask is the same decision on the latent grid,
    so that noise is added exactly where the network is run. (On even sizes this equals the paper's two masks.) A denoiser
    that was trained with noise everywhere gets it everywhere.

    Args:
        autoencoder: Autoencoder.
        denoiser: Denoiser that will be run.
        low_res: ``(B, 1, H, W)`` in [-1, 1].
        leaves: ``(B, rows, columns)`` bool, from :func:`active_leaves`.
        scale: Magnification, a multiple of the autoencoder's downsampling, 4.
    """
    with torch.no_grad():
        z_y = autoencoder.encode(upsample(low_res, scale))
    height, width = z_y.shape[-2:]
    mask = on_finer_grid(leaves, denoiser.config.downstream_patch)[:, None, :height, :width]
    if denoiser.config.noise_everywhere:
        mask = torch.ones_like(mask)
    return Conditioning(low_res, z_y, leaves, mask, denoiser.plan(leaves))
