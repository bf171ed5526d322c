"""Shapes of networks that tests run: of every kind of layer one, and small."""

from __future__ import annotations

from dataclasses import replace

import torch

from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.models.network import LatentNetwork, LatentNetworkConfig, build_network
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


def awakened(config: LatentNetworkConfig) -> LatentNetwork:
    """A network whose zero-initialised layers were filled, so that every path shows in the output."""
    torch.manual_seed(0)
    network = build_network(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network
