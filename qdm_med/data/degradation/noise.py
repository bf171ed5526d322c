"""Gaussian and Poisson noise of the Real-ESRGAN degradation, from recorded seeds.

Noise is drawn by NumPy on the CPU whatever device the image is on, so that a seed means the same noise everywhere.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qdm_med.keys import recorded

POISSON_LEVELS = 256
"""Photons a fully white pixel stands for before scaling. The original counts the distinct grey levels of each image
and rounds up to a power of two, which is 256 for nearly every slice; a constant makes the noise of a crop that of
the whole slice."""

_LUMA = (0.299, 0.587, 0.114)


def add_gaussian_noise(image: Tensor, *, sigma: float, grey: bool, seed: int) -> Tensor:
    """Add white noise.

    Args:
        image: ``(C, H, W)`` in [0, 1].
        sigma: Standard deviation in units of the image.
        grey: Give all channels the same noise.
        seed: Key of the noise.

    Returns:
        ``(C, H, W)``, clamped to [0, 1].
    """
    shape = (1, *image.shape[1:]) if grey else tuple(image.shape)
    noise = recorded(seed).standard_normal(shape, dtype=np.float32)
    return (image + sigma * torch.from_numpy(noise).to(image)).clamp(0.0, 1.0)


def add_poisson_noise(image: Tensor, *, scale: float, grey: bool, seed: int) -> Tensor:
    """Add photon noise, whose variance is ``scale^2 image / POISSON_LEVELS``.

    Args:
        image: ``(C, H, W)`` in [0, 1]; values beyond are clamped first.
        scale: Factor on the noise; 1 is true photon noise.
        grey: Draw the noise once, on the luminance, for all channels.
        seed: Key of the noise.

    Returns:
        ``(C, H, W)``, clamped to [0, 1].
    """
    clamped = image.clamp(0.0, 1.0)
    expected = _luminance(clamped) if grey else clamped
    # Rounded to 8 bits so that the draw does not depend on the last bit of the arithmetic before it.
    expected = torch.round(expected * 255.0) / 255.0
    rate = expected.cpu().double().numpy() * POISSON_LEVELS
    photons = recorded(seed).poisson(rate)
    noise = torch.from_numpy((photons - rate) / POISSON_LEVELS).to(image)
    return (clamped + scale * noise).clamp(0.0, 1.0)


def _luminance(image: Tensor) -> Tensor:
    if image.shape[0] == 1:
        return image
    return torch.einsum("c,chw->hw", image.new_tensor(_LUMA), image)[None]
