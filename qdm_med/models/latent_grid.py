"""Images on the grid of a latent, and latents that hold whole windows."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def on_latent_grid(low_res: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """The low-resolution image on the latent grid, grey repeated where the network was made for RGB."""
    image = low_res.expand(-1, channels, -1, -1)
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


def padded_to(x: Tensor, side: int) -> Tensor:
    """Pad to whole windows of ``side`` latent pixels by repeating the border, which invents no edge."""
    height, width = x.shape[-2:]
    if height % side == 0 and width % side == 0:
        return x  # padding by nothing would copy
    return F.pad(x, (0, -width % side, 0, -height % side), mode="replicate")
