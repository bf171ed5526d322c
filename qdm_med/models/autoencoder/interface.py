"""Interface of an autoencoder, as the diffusion uses it."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Autoencoder(Protocol):
    """Images in [-1, 1] to latents of about unit variance, a quarter of the side, and back."""

    def encode(self, image: Tensor) -> Tensor:
        """``(B, C, H, W)`` image -> ``(B, Z, H / 4, W / 4)`` latent."""
        ...

    def decode(self, latent: Tensor) -> Tensor:
        """``(B, Z, h, w)`` latent -> ``(B, C, 4h, 4w)`` image, not clipped."""
        ...
