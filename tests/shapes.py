"""Shapes of networks that tests run: of every kind of layer one, and small."""

from __future__ import annotations

from dataclasses import replace

from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.models.qdm.config import PRESETS

TINY_AUTOENCODER = AutoencoderConfig(latent_channels=2, channels=(8, 16), res_blocks=(1, 1))
"""The light layout, two blocks in all."""

TINY_DENOISER = replace(
    PRESETS["t"],
    noise_everywhere=False,
    latent_channels=2,
    hidden=16,
    depth=1,
    heads=2,
    trunk_channels=8,
    source_channels=8,
    source_blocks=1,
)
"""The tiny preset, tinier."""
