"""The sampler: a pure loop; the network is only a callable.

The mathematics of residual shifting on one screen, in the paper's letters (arXiv 2503.12015, section 3.1): z_0 is the
latent of the high-resolution image, z_y that of the upsampled low-resolution one, eta_t the share of z_y - z_0 that is
present at step t = 1 ... T, kappa the strength of the noise, M the mask of active leaves. The chain is that of ResShift
(arXiv 2307.12348), whose name stands beside what the paper takes from it; the paper adds the mask::

    schedule  sqrt(eta_t) = sqrt(eta_1) b0^beta_t, beta_t = ((t - 1) / (T - 1))^p (T - 1)         Eq. 3; ResShift
              alpha_t = eta_t - eta_{t-1}                                                         ResShift
    forward   z_t = z_0 + eta_t (z_y - z_0) + [kappa sqrt(eta_t) M + 1e-7 (1 - M)] noise          Algorithm 1
    prior     z_T = z_y + [kappa sqrt(eta_T) M + 1e-7 (1 - M)] noise                              Algorithm 2
    network   z_0 = f(z_t / sqrt(eta_t kappa^2 + 1), t, z_y, low-resolution image)
    back      z_{t-1} = (eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0                           Algorithm 2; ResShift
                        + [sigma_t M + 1e-7 (1 - M)] noise, which is left out at t = 1
              sigma_t^2 = kappa^2 (eta_{t-1} / eta_t) alpha_t                                     ResShift

Another chain (:mod:`qdm_med.diffusion.chain`) has other shares in the same places.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qdm_med.diffusion.chain import Chain
from qdm_med.diffusion.process import masked_noise, posterior_mean, posterior_std, start

Denoise = Callable[[Tensor, int], Tensor]
"""``(z_t / std (B, C, h, w), timestep counted from 0) -> z_0 (B, C, h, w)``; conditioning is already bound."""

Noise = Callable[[int], Tensor]
"""``draw -> (B, C, h, w)`` standard normal; draw 0 starts the chain, draw k + 1 belongs to its k-th step."""


@torch.no_grad()
def sample(denoise: Denoise, z_y: Tensor, mask: Tensor, schedule: Chain, noise: Noise) -> Tensor:
    """Walk from the end of the chain to a high-resolution latent (Algorithm 2).

    Args:
        denoise: The network.
        z_y: ``(B, C, h, w)`` latent of the upsampled low-resolution image.
        mask: ``(B, 1, h, w)`` bool on the latent grid, True where noise is added.
        schedule: Full or respaced.
        noise: Source of randomness; a pure function of the draw's number.

    Returns:
        ``(B, C, h, w)`` latent of the high-resolution image.
    """
    z = start(schedule, z_y, mask, noise(0))  # z_T = z_y + [kappa sqrt(eta_T) M + 1e-7 (1 - M)] noise, (B, C, h, w)
    for step, index in enumerate(reversed(range(len(schedule)))):  # t = T, ..., 1; index = t - 1
        # Python numbers throughout: the loop never waits for the device.
        # z_0 of z_t / sqrt(eta_t kappa^2 + 1), (B, C, h, w)
        z_0 = denoise(z / float(schedule.input_std[index]), schedule.timesteps[index])
        z = posterior_mean(schedule, z, z_0, index)  # (eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0
        if index > 0 and (std := posterior_std(schedule, index)):
            z = z + masked_noise(noise(step + 1), std, mask)  # [sigma_t M + 1e-7 (1 - M)] noise
    return z
