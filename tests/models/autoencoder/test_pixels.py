"""Latents that are the pixels: nothing is lost, and a change of one is a change of the other."""

from __future__ import annotations

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig, KlVae

CONFIG = AutoencoderConfig(layout="pixels", latent_channels=16, channels=(), res_blocks=())


def autoencoder():
    network = KlVae(CONFIG)
    network.set_latent_statistics(torch.zeros(16), torch.full((16,), 0.07))
    return network


def test_every_pixel_comes_back():
    image = torch.randn(2, 1, 24, 40, generator=torch.Generator().manual_seed(0))
    latent = autoencoder().encode(image)
    assert latent.shape == (2, 16, 6, 10)
    torch.testing.assert_close(autoencoder().decode(latent), image)


def test_a_change_of_the_latent_is_a_change_of_its_own_block_of_pixels():
    latent = torch.zeros(1, 16, 3, 3)
    latent[0, :, 1, 2] = 1.0
    image = autoencoder().decode(latent)
    changed = torch.zeros(1, 1, 12, 12)
    changed[..., 4:8, 8:12] = 0.07
    torch.testing.assert_close(image, changed)


def test_it_has_no_weights_and_exactly_sixteen_channels_a_pixel_block():
    assert not list(autoencoder().parameters())
    with pytest.raises(ConfigError, match="16 channels, got 8"):
        AutoencoderConfig(layout="pixels", latent_channels=8, channels=(), res_blocks=())
    with pytest.raises(ConfigError, match="needs 0 numbers"):
        AutoencoderConfig(layout="pixels", latent_channels=16)
