"""Masked diffusion (arXiv 2503.12015, section 3.1, Algorithms 1 and 2): pure functions of tensors, for any chain.

The mask M is 1 in leaves where the chain adds noise. Elsewhere it adds a noise of 1e-7, which is to say none. The comments write
residual shifting in the paper's letters: z_0 the high-resolution latent, z_y that of the upsampled low-resolution image, eta_t the
share of z_y - z_0 that is there at step t, alpha_t = eta_t - eta_{t-1}, kappa the noise. Index i of a chain is step t = i + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qdm_med.diffusion.chain import Chain

QUIET = 1e-7
"""Noise standard deviation outside the mask."""


def masked_noise(noise: Tensor, std: Tensor | float, mask: Tensor) -> Tensor:
    """``[std M + 1e-7 (1 - M)] noise``.

    Args:
        noise: ``(B, C, h, w)`` standard normal.
        std: Number, or ``(B, 1, 1, 1)``.
        mask: ``(B, 1, h, w)`` bool on the latent grid.
    """
    return torch.where(mask, std * noise, QUIET * noise)  # (B, C, h, w)


def _at(values: object, t: Tensor, like: Tensor) -> Tensor:
    """Values of a schedule at indices ``t``, ``(B, 1, 1, 1)``, rounded to the tensors' precision last."""
    table = torch.as_tensor(values, dtype=torch.float64)
    return table[t.cpu()].to(like.dtype).to(like.device)[:, None, None, None]


def diffuse(schedule: Chain, z_0: Tensor, z_y: Tensor, t: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Forward process; of residual shifting ``z_t = z_0 + eta_t (z_y - z_0) + kappa sqrt(eta_t) M noise``.

    Args:
        schedule: The schedule.
        z_0: ``(B, C, h, w)`` latent of the high-resolution image.
        z_y: ``(B, C, h, w)`` latent of the upsampled low-resolution image.
        t: ``(B,)`` indices into the schedule.
        mask: ``(B, 1, h, w)`` bool.
        noise: ``(B, C, h, w)`` standard normal.

    Returns:
        ``(B, C, h, w)``.
    """
    # (1 - eta_t) z_0 + eta_t z_y = z_0 + eta_t (z_y - z_0)
    mean = _at(schedule.high_share, t, z_0) * z_0 + _at(schedule.low_share, t, z_0) * z_y  # (B, C, h, w)
    # + [kappa sqrt(eta_t) M + 1e-7 (1 - M)] noise
    return mean + masked_noise(noise, _at(schedule.noise_std, t, z_0), mask)


def start(schedule: Chain, z_y: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Prior sample; of residual shifting ``z_T = z_y + kappa sqrt(eta_T) M noise``."""
    return schedule.start_share * z_y + masked_noise(noise, float(schedule.noise_std[-1]), mask)


def scale_input(schedule: Chain, z_t: Tensor, t: Tensor) -> Tensor:
    """Divide ``z_t`` by its standard deviation at indices ``t``, ``(B,)``: what the network sees."""
    return z_t / _at(schedule.input_std, t, z_t)  # z_t / sqrt(eta_t kappa^2 + 1)


def posterior_mean(schedule: Chain, z_t: Tensor, z_0: Tensor, index: int) -> Tensor:
    """Mean of z_{t-1} given z_t and z_0; of residual shifting ``(eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0``."""
    return float(schedule.kept_share[index]) * z_t + float(schedule.new_share[index]) * z_0


def posterior_std(schedule: Chain, index: int) -> float:
    """Standard deviation of z_{t-1} given z_t and z_0; of residual shifting ``kappa sqrt((eta_{t-1} / eta_t) alpha_t)``."""
    return float(schedule.posterior_std[index])
