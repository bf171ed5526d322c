"""Masked diffusion (arXiv 2503.12015, section 3.1, Algorithms 1 and 2): pure functions of tensors, for any chain.

The mask M is 1 in leaves where the chain adds noise. Elsewhere it adds a noise of 1e-7, which is to say none. Formulas
are those of residual shifting; all of them stand together, with the letters, in :mod:`qdm_med.diffusion.sampler`. Index
i of a chain is step t = i + 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qdm_med.diffusion.chain import Chain

QUIET = 1e-7
"""Noise standard deviation outside the mask."""


def masked_noise(noise: Tensor, std: Tensor | float, mask: Tensor) -> Tensor:
    """Noise inside the mask: ``[std M + 1e-7 (1 - M)] noise``.

    Args:
        noise: ``(B, C, h, w)`` standard normal.
        std: Number, or ``(B, 1, 1, 1)``.
        mask: ``(B, 1, h, w)`` bool on the latent grid.
    """
    return torch.where(mask, std * noise, QUIET * noise)  # (B, C, h, w)


def _at(values: object, t: Tensor, like: Tensor) -> Tensor:
    """Read a schedule's values at indices ``t``, ``(B, 1, 1, 1)``, rounded to the tensors' precision last."""
    table = torch.as_tensor(values, dtype=torch.float64)
    return table[t.cpu()].to(like.dtype).to(like.device)[:, None, None, None]


def diffuse(schedule: Chain, z_0: Tensor, z_y: Tensor, t: Tensor, mask: Tensor, noise: Tensor) -> Tensor:
    """Add noise as the forward process does (Algorithm 1; ResShift's marginal).

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
    """Draw the prior, from which the way back starts (Algorithm 2; ResShift's prior)."""
    return schedule.start_share * z_y + masked_noise(noise, float(schedule.noise_std[-1]), mask)


def scale_input(schedule: Chain, z_t: Tensor, t: Tensor) -> Tensor:
    """Divide ``z_t`` by its standard deviation at indices ``t``, ``(B,)``: the network's input."""
    return z_t / _at(schedule.input_std, t, z_t)  # z_t / sqrt(eta_t kappa^2 + 1)


def posterior_mean(schedule: Chain, z_t: Tensor, z_0: Tensor, index: int) -> Tensor:
    """Mean of z_{t-1} given z_t and z_0 (ResShift's posterior)."""
    # (eta_{t-1} / eta_t) z_t + (alpha_t / eta_t) z_0
    return float(schedule.kept_share[index]) * z_t + float(schedule.new_share[index]) * z_0


def posterior_std(schedule: Chain, index: int) -> float:
    """Standard deviation sigma_t of z_{t-1} given z_t and z_0 (ResShift's posterior)."""
    return float(schedule.posterior_std[index])
