"""A tiny random model whose every path shows in the output."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.checkpoint import Checkpoint, ModelCard
from qdm_med.models.autoencoder import AutoencoderConfig, KlVae
from qdm_med.models.denoiser import PRESETS, TwoStreamDenoiser


@pytest.fixture(scope="session")
def tiny_checkpoint():
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(latent_channels=2, channels=(8, 16), res_blocks=(1, 1))
    denoiser = replace(PRESETS["t"], latent_channels=2, hidden=16, depth=1, heads=2, trunk_channels=8)
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(denoiser).eval()
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.05)
    return Checkpoint(ModelCard("tiny", autoencoder, denoiser), *networks, sha256="0" * 64)
