"""The autoencoder of the paper's released weights, built from MONAI's parts.

MONAI's ``AutoencoderKL`` is close to the latent-diffusion autoencoder (arXiv 2112.10752) but not equal to it: its
decoder has one residual block a level fewer, neither half applies SiLU before its last convolution, and its
quantisation convolutions see the mean and the log variance apart. A strict load of converted weights succeeds and the
output is wrong, so the three are mended here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from monai.networks.nets.autoencoderkl import Decoder, Encoder
from torch import Tensor, nn

from qdm_med.models.autoencoder.light import LOG_VARIANCE_RANGE


def _activate_before_last(blocks: nn.ModuleList) -> None:
    """Give the last convolution the SiLU that precedes it in the latent-diffusion autoencoder."""
    blocks[-1] = nn.Sequential(nn.SiLU(), blocks[-1])


def _shared(channels: Sequence[int]) -> dict[str, Any]:
    return {
        "spatial_dims": 2,
        "channels": channels,
        "norm_num_groups": 32,
        "norm_eps": 1e-6,
        "attention_levels": [False] * len(channels),
        "use_flash_attention": True,  # scaled_dot_product_attention: the same numbers in less memory
    }


def _encoder(image_channels: int, out_channels: int, channels: Sequence[int], res_blocks: int) -> nn.Module:
    encoder = Encoder(
        in_channels=image_channels,
        out_channels=out_channels,
        num_res_blocks=[res_blocks] * len(channels),
        **_shared(channels),
    )
    _activate_before_last(encoder.blocks)
    return cast(nn.Module, encoder)


def _decoder(in_channels: int, image_channels: int, channels: Sequence[int], res_blocks: int) -> nn.Module:
    decoder = Decoder(
        in_channels=in_channels,
        out_channels=image_channels,
        num_res_blocks=[res_blocks + 1] * len(channels),
        **_shared(channels),
    )
    _activate_before_last(decoder.blocks)
    return cast(nn.Module, decoder)


class LatentDiffusionAutoencoder(nn.Module):
    """Latent-diffusion autoencoder with attention in the middle only, downsampling by ``2 ** (levels - 1)``.

    Args:
        image_channels: Channels of the image.
        latent_channels: Channels of the latent.
        channels: Width of each level, finest first; each a multiple of 32 (group norm).
        res_blocks: Residual blocks a level in the encoder; the decoder has one more.
    """

    def __init__(self, image_channels: int, latent_channels: int, channels: Sequence[int], res_blocks: int) -> None:
        super().__init__()
        self.encoder = _encoder(image_channels, 2 * latent_channels, channels, res_blocks)
        self.decoder = _decoder(latent_channels, image_channels, channels, res_blocks)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(B, C, H, W)`` image -> mean and standard deviation of the posterior, ``(B, Z, h, w)`` each."""
        mean, log_variance = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mean, torch.exp(log_variance.clamp(*LOG_VARIANCE_RANGE) / 2)

    def decode(self, z: Tensor) -> Tensor:
        """``(B, Z, h, w)`` latent -> ``(B, C, H, W)`` image."""
        image: Tensor = self.decoder(self.post_quant_conv(z))
        return image


class LatentDiffusionVqHalves(nn.Module):
    """Encoder and decoder of latent diffusion's VQ model, without a posterior: the encoder's answer is the latent.

    Args:
        latent_channels: Channels of the latent.
        channels: Width of each level, finest first; each a multiple of 32 (group norm).
        res_blocks: Residual blocks a level in the encoder; the decoder has one more.
    """

    def __init__(self, latent_channels: int, channels: Sequence[int], res_blocks: int) -> None:
        super().__init__()
        self.encoder = _encoder(3, latent_channels, channels, res_blocks)
        self.decoder = _decoder(latent_channels, 3, channels, res_blocks)
        self.quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, x: Tensor) -> Tensor:
        """``(B, 3, H, W)`` image -> ``(B, Z, h, w)`` latent."""
        latent: Tensor = self.quant_conv(self.encoder(x))
        return latent

    def decode(self, z: Tensor) -> Tensor:
        """``(B, Z, h, w)`` latent -> ``(B, 3, H, W)`` image."""
        image: Tensor = self.decoder(self.post_quant_conv(z))
        return image
