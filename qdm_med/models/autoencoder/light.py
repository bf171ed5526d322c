"""A KL autoencoder made for small compute: normalisation-free, with a pixel-unshuffle stem.

Its interface is that of MONAI's ``AutoencoderKL``. Without normalisation layers every output pixel depends on a
bounded neighbourhood alone, so a decoded tile equals the same part of the whole decoded slice exactly once the
receptive field is covered.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOG_VARIANCE_RANGE = (-30.0, 20.0)
"""Clamp of the posterior's log variance, as in latent diffusion (arXiv 2112.10752)."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions beside an identity; starts as the identity because its last convolution is zero."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # torch types an optional bias

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        changed: Tensor = self.conv2(F.silu(self.conv1(F.silu(x)), inplace=True))
        return changed.add_(x)


def residual_blocks(channels: int, count: int) -> nn.Sequential:
    """``count`` residual blocks in a row."""
    return nn.Sequential(*(ResidualBlock(channels) for _ in range(count)))


def light_encoder(
    image_channels: int, out_channels: int, channels: tuple[int, int], res_blocks: tuple[int, int]
) -> nn.Sequential:
    """Image to features of a quarter of its side; widths and blocks at half and at quarter resolution."""
    half, quarter = channels
    return nn.Sequential(
        nn.PixelUnshuffle(2),
        nn.Conv2d(4 * image_channels, half, 3, padding=1),
        residual_blocks(half, res_blocks[0]),
        nn.Conv2d(half, quarter, 3, stride=2, padding=1),
        residual_blocks(quarter, res_blocks[1]),
        nn.Conv2d(quarter, out_channels, 3, padding=1),
    )


def light_decoder(
    in_channels: int, image_channels: int, channels: tuple[int, int], res_blocks: tuple[int, int]
) -> nn.Sequential:
    """Features of a quarter of an image's side to the image; arguments as for :func:`light_encoder`."""
    half, quarter = channels
    return nn.Sequential(
        nn.Conv2d(in_channels, quarter, 3, padding=1),
        residual_blocks(quarter, res_blocks[1]),
        nn.Conv2d(quarter, 4 * half, 3, padding=1),
        nn.PixelShuffle(2),
        residual_blocks(half, res_blocks[0]),
        nn.Conv2d(half, 4 * image_channels, 3, padding=1),
        nn.PixelShuffle(2),
    )


class LightAutoencoder(nn.Module):
    """Image -> latent of a quarter of its side, and back.

    Args:
        image_channels: Channels of the image.
        latent_channels: Channels of the latent.
        channels: Width at half and at quarter resolution.
        res_blocks: Residual blocks at half and at quarter resolution.
    """

    def __init__(
        self,
        image_channels: int,
        latent_channels: int,
        channels: tuple[int, int],
        res_blocks: tuple[int, int],
    ) -> None:
        super().__init__()
        self.encoder = light_encoder(image_channels, 2 * latent_channels, channels, res_blocks)
        self.decoder = light_decoder(latent_channels, image_channels, channels, res_blocks)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` image -> mean and standard deviation of the posterior, ``(B, Z, H/4, W/4)`` each."""
        mean, log_variance = self.encoder(x).chunk(2, dim=1)
        return mean, torch.exp(log_variance.clamp(*LOG_VARIANCE_RANGE) / 2)

    def decode(self, z: Tensor) -> Tensor:
        """``(B, Z, h, w)`` latent -> ``(B, C, 4h, 4w)`` image."""
        image: Tensor = self.decoder(z)
        return image


class LightVqHalves(nn.Module):
    """The same encoder and decoder in colour, without a posterior: the encoder's answer is the latent.

    Args:
        latent_channels: Channels of the latent.
        channels: Width at half and at quarter resolution.
        res_blocks: Residual blocks at half and at quarter resolution.
    """

    def __init__(self, latent_channels: int, channels: tuple[int, int], res_blocks: tuple[int, int]) -> None:
        super().__init__()
        self.encoder = light_encoder(3, latent_channels, channels, res_blocks)
        self.decoder = light_decoder(latent_channels, 3, channels, res_blocks)

    def encode(self, x: Tensor) -> Tensor:
        """``(B, 3, H, W)`` image -> ``(B, Z, H / 4, W / 4)`` latent."""
        latent: Tensor = self.encoder(x)
        return latent

    def decode(self, z: Tensor) -> Tensor:
        """``(B, Z, h, w)`` latent -> ``(B, 3, 4h, 4w)`` image."""
        image: Tensor = self.decoder(z)
        return image
