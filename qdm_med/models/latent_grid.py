"""Fit to the grid of a latent: images resized to it, latents padded to whole windows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def on_latent_grid(low_res: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Resize the low-resolution image to the latent grid; grey is repeated for a network made for RGB."""
    image = low_res.expand(-1, channels, -1, -1)
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


CONTRAST_SIDE = 5
"""Side of the neighbourhood whose mean local contrast is measured against, in latent pixels."""

CONTRAST_GAIN = 100.0
"""Factor on a network unit of contrast before it is compressed: 10 HU of soft tissue become about 1."""


def local_contrast(image: Tensor) -> Tensor:
    """Difference of each pixel from its neighbourhood's mean, compressed by an inverse hyperbolic sine to a few units."""
    margin = CONTRAST_SIDE // 2
    around = F.avg_pool2d(F.pad(image, (margin,) * 4, mode="replicate"), CONTRAST_SIDE, stride=1)
    return (CONTRAST_GAIN * (image - around)).asinh() / 2


def padded_to(x: Tensor, side: int) -> Tensor:
    """Pad to whole windows of ``side`` latent pixels by repeating the border, which invents no edge."""
    height, width = x.shape[-2:]
    if height % side == 0 and width % side == 0:
        return x  # padding by nothing would copy
    return F.pad(x, (0, -width % side, 0, -height % side), mode="replicate")
