"""Super-resolution of a batch of low-resolution images that fit into memory: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.sampler import Noise, sample
from qdm_med.diffusion.schedule import ResidualShiftSchedule
from qdm_med.models.autoencoder import DOWNSAMPLING, KlVae
from qdm_med.models.conditioning import condition
from qdm_med.models.denoiser import Prediction, TwoStreamDenoiser
from qdm_med.models.quadtree import Quadtree


@dataclass(frozen=True)
class SuperResolved:
    """A batch of super-resolved images.

    Attributes:
        image: ``(B, 1, scale H, scale W)`` in [-1, 1].
        leaves: ``(B, rows, columns)`` bool, active leaves of the quadtree.
        windows: Number of downstream windows that were computed, over the batch.
        windows_in_all: Number of windows that a dense network would have computed.
    """

    image: Tensor
    leaves: Tensor
    windows: int
    windows_in_all: int


def slice_draws(
    noise: SliceNoise,
    low_res_size: tuple[int, int],
    *,
    channels: int,
    scale: int,
    device: torch.device,
    region: tuple[slice, slice] | None = None,
) -> Noise:
    """Draws of a slice's noise on its own latent grid, or on the part of it that belongs to a tile.

    The whole slice's noise is drawn and the tile cut out of it, so that tiles agree where they overlap.

    Args:
        noise: Noise of the slice.
        low_res_size: Rows and columns of the whole low-resolution slice.
        channels: Latent channels.
        scale: Magnification.
        device: Where the draws are needed.
        region: Rows and columns of the tile in the low-resolution slice; ``None``: all.
    """
    per_pixel = scale // DOWNSAMPLING  # latent pixels along one side of a low-resolution pixel
    shape = (channels, *(side * per_pixel for side in low_res_size))
    rows, columns = region or (slice(0, low_res_size[0]), slice(0, low_res_size[1]))
    cut_rows, cut_columns = (slice(side.start * per_pixel, side.stop * per_pixel) for side in (rows, columns))
    return lambda number: noise.draw(number, shape)[None, :, cut_rows, cut_columns].to(device)


@torch.no_grad()
def super_resolve(
    autoencoder: KlVae,
    denoiser: TwoStreamDenoiser,
    low_res: Tensor,
    *,
    scale: int,
    schedule: ResidualShiftSchedule,
    quadtree: Quadtree,
    noise: Noise,
    within: Tensor | None = None,
) -> SuperResolved:
    """Encode, sample, decode (paper Algorithm 2).

    Args:
        autoencoder: Autoencoder, in evaluation mode.
        denoiser: Denoiser, in evaluation mode.
        low_res: ``(B, 1, H, W)`` in [-1, 1], on the device of the networks.
        scale: Magnification.
        schedule: Full or respaced.
        quadtree: Which leaves are active.
        noise: Draws of ``(B, C, scale H / 4, scale W / 4)`` standard normal noise.
        within: ``(B, 1, H, W)`` bool, pixels in which leaves may be active; ``None``: all.
    """
    known = condition(autoencoder, denoiser, low_res, scale=scale, quadtree=quadtree, within=within)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        prediction: Prediction = denoiser(x_t, t, known.low_res, known.z_y, known.plan)
        return prediction.merged

    z_0 = sample(denoise, known.z_y, known.mask, schedule, noise)
    image = autoencoder.decode(z_0).clamp(-1, 1)
    return SuperResolved(image, known.leaves, known.plan.window_count, known.plan.windows_in_all)
