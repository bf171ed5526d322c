"""The VQGAN in whose latents the paper's natural-image track works: colour, 4x smaller, 8192 codes.

Vector quantisation after VQ-VAE (arXiv 1711.00937) as latent diffusion uses it (arXiv 2112.10752): the diffusion works
on what the encoder says, and only the decoder puts each latent pixel on its nearest code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder.light import LightVqHalves

CHUNK = 2048
"""Latent pixels that are compared with all codes at once: with 8192 codes 64 MiB."""


@dataclass(frozen=True)
class VqConfig:
    """Shape of a VQ autoencoder; the defaults are those of the released natural-image one.

    Attributes:
        layout: ``"latent-diffusion"`` (the layout of the released weights) or ``"light"`` (made for small compute).
        codes: Entries of the codebook.
        latent_channels: Channels of the latent and of each code.
        channels: Width of each level, finest first: three, or two for ``light``.
        res_blocks: Residual blocks of each level.
    """

    layout: Literal["latent-diffusion", "light"] = "latent-diffusion"
    codes: int = 8192
    latent_channels: int = 3
    channels: tuple[int, ...] = (128, 256, 512)
    res_blocks: tuple[int, ...] = (2, 2, 2)

    def __post_init__(self) -> None:
        """Check the numbers against the layout."""
        levels = 2 if self.layout == "light" else 3
        for name in ("channels", "res_blocks"):
            if len(getattr(self, name)) != levels:
                raise ConfigError(
                    f"{name} of a {self.layout} VQ autoencoder needs {levels} numbers, got {getattr(self, name)}"
                )
        if self.codes < 2:
            raise ConfigError(f"codes must be at least 2, got {self.codes}")
        if self.layout == "latent-diffusion" and len(set(self.res_blocks)) > 1:
            raise ConfigError(f"res_blocks of a latent-diffusion autoencoder must be equal, got {self.res_blocks}")


class Quantised(NamedTuple):
    """Latents on their nearest codes.

    Attributes:
        latent: ``(B, Z, h, w)`` codes; the gradient goes straight through to what was quantised.
        codes: ``(B, h, w)`` numbers of the codes.
        codebook: Squared distance that moves the codes to the encoder's answers.
        commitment: The same distance, which moves the encoder's answers to the codes.
    """

    latent: Tensor
    codes: Tensor
    codebook: Tensor
    commitment: Tensor


class VectorQuantiser(nn.Module):
    """A codebook that latents are snapped to.

    Args:
        codes: Number of entries.
        channels: Channels of an entry.
    """

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(codes, channels)
        nn.init.uniform_(self.embedding.weight, -1 / codes, 1 / codes)

    def nearest(self, z: Tensor) -> Tensor:
        """Find the codes nearest to ``(B, Z, h, w)`` latents, ``(B, h, w)`` numbers."""
        flat = z.detach().float().movedim(1, -1).flatten(0, -2)  # (B h w, Z)
        codes = self.embedding.weight.detach().float()
        squared = codes.square().sum(dim=1)
        found = [torch.addmm(squared, part, codes.T, alpha=-2).argmin(dim=1) for part in torch.split(flat, CHUNK)]
        return torch.cat(found).reshape(z.shape[0], *z.shape[2:])

    def forward(self, z: Tensor) -> Quantised:
        """Move ``(B, Z, h, w)`` latents to their nearest codes."""
        codes = self.nearest(z)
        chosen = self.embedding(codes).movedim(-1, 1)  # (B, Z, h, w)
        return Quantised(
            latent=z + (chosen - z).detach(),
            codes=codes,
            codebook=F.mse_loss(chosen, z.detach()),
            commitment=F.mse_loss(z, chosen.detach()),
        )


class Reconstruction(NamedTuple):
    """A reconstructed image, with the terms that its training needs.

    Attributes:
        image: ``(B, 3, H, W)`` decoded image, not clipped.
        latent: ``(B, Z, h, w)`` the encoder's answer, before normalisation and quantisation.
        quantised: The same on its nearest codes.
    """

    image: Tensor
    latent: Tensor
    quantised: Quantised


class _Halves(Protocol):
    """Interface that both layouts share: encoder and decoder."""

    def encode(self, x: Tensor) -> Tensor: ...

    def decode(self, z: Tensor) -> Tensor: ...


def _halves(config: VqConfig) -> nn.Module:
    if config.layout == "light":
        half, quarter = config.channels
        at_half, at_quarter = config.res_blocks
        return LightVqHalves(config.latent_channels, (half, quarter), (at_half, at_quarter))
    # MONAI takes seconds to import, and a command that runs the light layout needs nothing of it.
    from qdm_med.models.autoencoder.latent_diffusion import LatentDiffusionVqHalves

    return LatentDiffusionVqHalves(config.latent_channels, config.channels, config.res_blocks[0])


class VqAutoencoder(nn.Module):
    """VQ autoencoder of colour images with normalised latents.

    ``latent = (answer of the encoder - latent_mean) * latent_scale``, channel by channel: mean 0 and scale 1 in the
    released one; for our own both are measured on the training photographs.
    """

    latent_mean: Tensor
    latent_scale: Tensor

    def __init__(self, config: VqConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _halves(config)
        self.quantiser = VectorQuantiser(config.codes, config.latent_channels)
        self.register_buffer("latent_mean", torch.zeros(config.latent_channels))
        self.register_buffer("latent_scale", torch.ones(config.latent_channels))

    def encode(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [-1, 1] -> ``(B, Z, H / 4, W / 4)`` normalised latent, not quantised."""
        return (self.latents(image) - self.latent_mean[:, None, None]) * self.latent_scale[:, None, None]

    def decode(self, latent: Tensor) -> Tensor:
        """``(B, Z, h, w)`` normalised latent -> ``(B, 3, 4h, 4w)`` image of its nearest codes, not clipped."""
        latent = latent / self.latent_scale[:, None, None] + self.latent_mean[:, None, None]
        return cast("_Halves", self.network).decode(self.quantiser(latent).latent)

    def reconstruct(self, image: Tensor) -> Reconstruction:
        """Encode and decode ``(B, 3, H, W)`` in [-1, 1], as in training."""
        latent = self.latents(image)
        quantised: Quantised = self.quantiser(latent)
        return Reconstruction(cast("_Halves", self.network).decode(quantised.latent), latent, quantised)

    def latents(self, image: Tensor) -> Tensor:
        """``(B, 3, H, W)`` in [-1, 1] -> ``(B, Z, H / 4, W / 4)`` the encoder's answer, before normalisation."""
        return cast("_Halves", self.network).encode(image)

    def without_codes(self, image: Tensor) -> Tensor:
        """Encode and decode ``(B, 3, H, W)`` in [-1, 1] past the codebook, as in the first steps of training."""
        return cast("_Halves", self.network).decode(self.latents(image))

    @property
    def last_layer(self) -> Tensor:
        """Weights of the convolution that makes the image."""
        decoder = cast("nn.Module", self.network.decoder)
        return [module for module in decoder.modules() if isinstance(module, nn.Conv2d)][-1].weight

    def set_latent_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Normalise latents by ``mean`` and ``std``, ``(Z,)`` each, measured on training data."""
        self.latent_mean.copy_(mean)
        self.latent_scale.copy_(1 / std)
