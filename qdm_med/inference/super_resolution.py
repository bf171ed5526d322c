"""Super-resolution of a batch of low-resolution images that fit into memory: tensors in, tensors out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qdm_med.diffusion.sampler import Noise, sample
from qdm_med.diffusion.schedule import ResidualShiftSchedule
from qdm_med.models.autoencoder import KlVae
from qdm_med.models.conditioning import condition
from qdm_med.models.denoiser import Prediction, TwoStreamDenoiser


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


@torch.no_grad()
def super_resolve(
    autoencoder: KlVae,
    denoiser: TwoStreamDenoiser,
    low_res: Tensor,
    *,
    scale: int,
    schedule: ResidualShiftSchedule,
    threshold: float,
    noise: Noise,
) -> SuperResolved:
    """Encode, sample, decode (paper Algorithm 2).

    Args:
        autoencoder: Autoencoder, in evaluation mode.
        denoiser: Denoiser, in evaluation mode.
        low_res: ``(B, 1, H, W)`` in [-1, 1], on the device of the networks.
        scale: Magnification.
        schedule: Full or respaced.
        threshold: Quadtree threshold s.
        noise: Draws of ``(B, C, scale H / 4, scale W / 4)`` standard normal noise.
    """
    known = condition(autoencoder, denoiser, low_res, scale=scale, threshold=threshold)

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        prediction: Prediction = denoiser(x_t, t, known.low_res, known.z_y, known.plan)
        return prediction.merged

    z_0 = sample(denoise, known.z_y, known.mask, schedule, noise)
    image = autoencoder.decode(z_0).clamp(-1, 1)
    return SuperResolved(image, known.leaves, known.plan.count, known.plan.active.numel())
