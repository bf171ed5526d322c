"""The KL autoencoder in whose latent space QDM works (arXiv 2503.12015, section 3.1: 4x downsampling, 3 latent channels)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, cast

import torch
from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder.light import LightAutoencoder
from qdm_med.models.autoencoder.pixels import PixelAutoencoder

DOWNSAMPLING = 4
"""Image pixels along one side of a latent pixel."""


@dataclass(frozen=True)
class AutoencoderConfig:
    """Shape of a KL autoencoder.

    Attributes:
        layout: ``"light"`` (made for small compute), ``"latent-diffusion"`` (the layout of the released weights), ``"monai"``
            (MONAI's AutoencoderKL, close to it with a block less a level of the decoder) or ``"pixels"`` (no network: blocks
            of 4 x 4 pixels are the channels, and nothing is lost).
        image_channels: 1 for CT; 3 for weights trained on RGB, to which grey is then repeated.
        latent_channels: Channels of the latent.
        channels: Width of each level, finest first: two for ``light``, none for ``pixels``, three for the others.
        res_blocks: Residual blocks of each level.
    """

    layout: Literal["light", "monai", "latent-diffusion", "pixels"] = "light"
    image_channels: int = 1
    latent_channels: int = 4
    channels: tuple[int, ...] = (32, 64)
    res_blocks: tuple[int, ...] = (1, 2)

    def __post_init__(self) -> None:
        """Check the numbers against the layout."""
        levels = _LEVELS.get(self.layout)
        if levels is None:
            raise ConfigError(f"autoencoder layout {self.layout!r} is unknown; known: {', '.join(_LEVELS)}")
        for name in ("channels", "res_blocks"):
            if len(getattr(self, name)) != levels:
                raise ConfigError(
                    f"{name} of a {self.layout} autoencoder needs {levels} numbers, got {getattr(self, name)}"
                )
        if self.image_channels not in (1, 3):
            raise ConfigError(f"image_channels must be 1 or 3, got {self.image_channels}")
        if self.layout == "pixels" and self.latent_channels != DOWNSAMPLING**2 * self.image_channels:
            raise ConfigError(
                f"latents of layout pixels have {DOWNSAMPLING**2 * self.image_channels} channels, got {self.latent_channels}"
            )
        if self.layout == "latent-diffusion" and len(set(self.res_blocks)) > 1:
            raise ConfigError(f"res_blocks of a latent-diffusion autoencoder must be equal, got {self.res_blocks}")


_LEVELS = {"light": 2, "monai": 3, "latent-diffusion": 3, "pixels": 0}
"""Layouts, and how many levels of features each has."""

PAPER_SIZE = AutoencoderConfig(
    layout="latent-diffusion", image_channels=3, latent_channels=3, channels=(128, 256, 512), res_blocks=(2, 2, 2)
)
"""The paper's KL-VAE as released: 55.31 M parameters, three image channels, to which grey is repeated."""


class _Network(Protocol):
    """Interface that the layouts share: that of MONAI's AutoencoderKL."""

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]: ...

    def decode(self, z: Tensor) -> Tensor: ...


def _network(config: AutoencoderConfig) -> nn.Module:
    if config.layout == "pixels":
        return PixelAutoencoder()
    if config.layout == "light":
        half, quarter = config.channels
        at_half, at_quarter = config.res_blocks
        return LightAutoencoder(config.image_channels, config.latent_channels, (half, quarter), (at_half, at_quarter))
    # MONAI takes seconds to import, and a command that runs the light layout needs nothing of it.
    if config.layout == "latent-diffusion":
        from qdm_med.models.autoencoder.latent_diffusion import LatentDiffusionAutoencoder

        return LatentDiffusionAutoencoder(
            config.image_channels, config.latent_channels, config.channels, config.res_blocks[0]
        )
    from monai.networks.nets.autoencoderkl import AutoencoderKL

    network: nn.Module = AutoencoderKL(
        spatial_dims=2,
        in_channels=config.image_channels,
        out_channels=config.image_channels,
        num_res_blocks=config.res_blocks,
        channels=config.channels,
        attention_levels=[False] * len(config.channels),
        latent_channels=config.latent_channels,
        norm_num_groups=32,
        use_flash_attention=True,
    )
    return network


class KlVae(nn.Module):
    """KL autoencoder with normalised latents.

    The diffusion assumes latents of about unit variance, so the posterior mean is shifted and scaled channel by
    channel: ``latent = (mean - latent_mean) * latent_scale``. The paper uses one scale, 0.1, and no shift; for our own
    autoencoders both are measured on the training split and stored with the weights.
    """

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _network(config)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_scale", torch.ones(config.latent_channels))

    def posterior(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior, before normalisation.

        Args:
            image: ``(B, 1, H, W)`` in [-1, 1]; ``H`` and ``W`` multiples of 4.

        Returns:
            Two tensors ``(B, Z, H / 4, W / 4)``.
        """
        mean, std = cast("_Network", self.network).encode(image.expand(-1, self.config.image_channels, -1, -1))
        return mean, std

    def encode(self, image: Tensor) -> Tensor:
        """``(B, 1, H, W)`` in [-1, 1] -> ``(B, Z, H / 4, W / 4)`` normalised posterior mean (never a random draw)."""
        mean, _ = self.posterior(image)
        return (mean - self.latent_mean[:, None, None]) * self.latent_scale[:, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """``(B, Z, h, w)`` normalised latent -> ``(B, 1, 4h, 4w)`` image, nominally in [-1, 1], not clipped.

        An RGB autoencoder's three channels are averaged: for a grey image they are three guesses at one value.
        """
        mean = latent / self.latent_scale[:, None, None] + self.latent_mean[:, None, None]
        image = cast("_Network", self.network).decode(mean)
        return image.mean(dim=1, keepdim=True)

    def decode_posterior(self, sample: Tensor) -> Tensor:
        """``(B, Z, h, w)`` un-normalised posterior sample -> ``(B, C, 4h, 4w)`` image, as in training."""
        return cast("_Network", self.network).decode(sample)

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Normalise latents by ``mean`` and ``std``, ``(Z,)`` each, measured on training data."""
        self.latent_mean.copy_(mean)
        self.latent_scale.copy_(1 / std)
