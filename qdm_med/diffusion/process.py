"""Masked residual-shifting diffusion (paper section 3.1, Algorithms 1 and 2): pure functions of tensors.

The mask M is 1 in leaves where the chain adds noise. Elsewhere it adds a noise of 1e-7, which is to say none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qdm_med.diffusion.schedule import ResidualShiftSchedule

QUIET = 1e-7
"""Noise standard deviation outside the mask."""


def masked_noise(noise: Tensor, std: Tensor | float, mask: Tensor) -> Tensor:
    """``[std M + 1e-7 (1 - M)] noise``.

    Args:
        noise: ``(B, C, h, w)`` standard normal.
        std: Number, or ``(B, 1, 1, 1)``.
        mask: ``(B, 1, h, w)`` bool on the latent grid.
    """
    return torch.where(mask, std * noise, QUIET * noise)


def _at(values: object, t: Tensor, like: Tensor) -> Tensor:
    """Values of a schedule at indices ``t``, ``(B, 1, 1, 1)``, rounded to the tensors' precision last."""
    table = torch.as_tensor(values, dtype=torch.float64)
    return table[t.cpu()].to(like.dtype).to(like.device)[:, None, None, None]


def diffuse(
    schedule: ResidualShiftSchedule, z_0: Tensor, z_y: Tensor, t: Tensor, mask: Tensor, noise: Tensor
) -> Tensor:
    """Forward process: ``z_t = z_0 + eta_t (z_y - z_0) + kappa sqrt(eta_t) M noise``.

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
    mean = z_0 + _at(schedule.eta, t, z_0) * (z_y - z_0)
    return mean + masked_noise(noise, _at(schedule.kappa * schedule.sqrt_eta, t, z_0), mask)


def start(schedule: ResidualShiftSchedule, z_y: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Prior sample: ``z_T = z_y + kappa sqrt(eta_T) M noise``."""
    return z_y + masked_noise(noise, float(schedule.kappa * schedule.sqrt_eta[-1]), mask)


def scale_input(schedule: ResidualShiftSchedule, z_t: Tensor, t: Tensor) -> Tensor:
    """Divide ``z_t`` by its standard deviation at indices ``t``, ``(B,)``: what the network sees."""
    return z_t / _at(schedule.input_std, t, z_t)


def posterior_mean(schedule: ResidualShiftSchedule, z_t: Tensor, z_0: Tensor, index: int) -> Tensor:
    """Mean of q(z_{t-1} | z_t, z_0): ``(eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0``."""
    eta = schedule.eta[index]
    return float(schedule.eta_prev[index] / eta) * z_t + float(schedule.alpha[index] / eta) * z_0


def posterior_std(schedule: ResidualShiftSchedule, index: int) -> float:
    """Standard deviation of q(z_{t-1} | z_t, z_0), from the clipped log variance."""
    return math.exp(0.5 * schedule.posterior_log_variance_clipped[index])
