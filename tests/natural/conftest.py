"""A natural-image checkpoint of tiny shapes, untrained but not idle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.natural.checkpoint import NaturalCard, save_natural
from tests.shapes import TINY_DENOISER

TINY_VQ = VqConfig("light", 64, 3, (8, 16), (1, 1))
TINY_NATURAL = replace(
    TINY_DENOISER, latent_channels=3, condition_channels=3, trained_size=32, source_channels=0, source_blocks=0
)


@pytest.fixture(scope="session")
def natural_checkpoint(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    autoencoder, denoiser = VqAutoencoder(TINY_VQ), TwoStreamDenoiser(TINY_NATURAL)
    torch.nn.init.normal_(autoencoder.quantiser.embedding.weight, std=0.3)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
    path = tmp_path_factory.mktemp("natural") / "tiny.safetensors"
    save_natural(path, NaturalCard("natural-tiny", TINY_VQ, TINY_NATURAL, steps=2), autoencoder, denoiser)
    return path
