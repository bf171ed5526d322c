"""Super-resolution of a batch of low-resolution images that fits into memory: tensors in, tensors out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor

from qdm_med.diffusion.chain import Chain
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.sampler import Noise, sample
from qdm_med.models.autoencoder.interface import Autoencoder
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.conditioning import condition
from qdm_med.models.network import LatentNetwork, LatentStep
from qdm_med.models.qdm.denoiser import Prediction


def slice_draws(
    noise: SliceNoise, region: tuple[slice, slice], *, channels: int, scale: int, device: torch.device
) -> Noise:
    """Draw a slice's noise on a tile's part of its latent grid; tiles agree where they overlap.

    Args:
        noise: Noise of the slice.
        region: Rows and columns of the tile in the low-resolution slice.
        channels: Latent channels.
        scale: Magnification.
        device: Device of the draws.
    """
    per_pixel = scale // DOWNSAMPLING  # latent pixels along one side of a low-resolution pixel
    rows, columns = (slice(side.start * per_pixel, side.stop * per_pixel) for side in region)
    return lambda number: noise.draw(number, channels, rows, columns)[None].to(device, non_blocking=True)


@torch.no_grad()
def read_steps(denoiser: LatentNetwork, schedule: Chain, device: torch.device) -> dict[int, LatentStep]:
    """Compute the modulation of every layer at each timestep, once for all slices, tiles and samples.

    Args:
        denoiser: Denoiser; what is read holds as long as its weights do.
        schedule: Full or respaced.
        device: Device of the denoiser.
    """
    return {t: denoiser.read_step(torch.tensor([t], device=device)) for t in schedule.timesteps}


@torch.no_grad()
def super_resolve(
    autoencoder: Autoencoder,
    denoiser: LatentNetwork,
    low_res: Tensor,
    leaves: Tensor,
    *,
    scale: int,
    schedule: Chain,
    steps: Mapping[int, LatentStep],
    noises: Sequence[Noise],
) -> Tensor:
    """Super-resolve a batch: encode once, sample, decode (arXiv 2503.12015, Algorithm 2).

    Args:
        autoencoder: Autoencoder, in evaluation mode.
        denoiser: Denoiser, in evaluation mode.
        low_res: ``(B, 1, H, W)`` in [-1, 1], on the device of the networks.
        leaves: ``(B, rows, columns)`` bool, active leaves.
        scale: Magnification.
        schedule: Full or respaced.
        steps: From :func:`read_steps`, of the denoiser and the schedule.
        noises: For each sample the draws of its ``(B, C, scale H / 4, scale W / 4)`` standard normal noise; at least one.

    Returns:
        ``(B, 1, scale H, scale W)`` float32 in [-1, 1]: the mean of the samples.
    """
    known = condition(autoencoder, denoiser, low_res, leaves, scale=scale)
    source = denoiser.read_source(known.low_res, known.z_y)

    deviation = dict(zip(schedule.timesteps, schedule.input_std.tolist(), strict=True))

    def denoise(x_t: Tensor, timestep: int) -> Tensor:
        if denoiser.config.see_shift:
            x_t = x_t - known.z_y / deviation[timestep]
        prediction: Prediction = denoiser(x_t, steps[timestep], known.low_res, known.z_y, known.plan, source)
        return prediction.merged

    def draw(noise: Noise) -> Tensor:
        z_0 = sample(denoise, known.z_y, known.mask, schedule, noise)
        return autoencoder.decode(z_0).clamp(-1, 1).float()

    return reduce(Tensor.add_, map(draw, noises)) / len(noises)
