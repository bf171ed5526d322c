"""Autoencoders against the released layout's numbers and their own promises."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from qdm_med.checkpoints.released_names import (
    autoencoder_config_from_released,
    autoencoder_from_released,
    autoencoder_to_released,
)
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.models.autoencoder.kl_vae import PAPER_SIZE, AutoencoderConfig, KlVae

TOLERANCE = 1e-4


def converted(released):
    config = autoencoder_config_from_released(released)
    autoencoder = KlVae(config).eval()
    statistics = {"latent_mean": autoencoder.latent_mean, "latent_scale": autoencoder.latent_scale}
    autoencoder.load_state_dict(autoencoder_from_released(released, config) | statistics)
    return autoencoder


@pytest.fixture(scope="module")
def released(golden_path):
    return load_file(golden_path / "aekl_tiny.safetensors")


def test_released_weights_give_the_released_numbers(released, golden):
    io = golden("aekl_io")
    autoencoder = converted(released)
    with torch.no_grad():
        mean, std = autoencoder.posterior(io["x"])
        moments = torch.cat([mean, 2 * std.log()], dim=1)
        torch.testing.assert_close(moments, io["tiny_moments"], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(mean, io["tiny_mean"], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(
            autoencoder.decode_posterior(io["tiny_mean"]), io["tiny_dec"], atol=TOLERANCE, rtol=0
        )


def test_conversion_there_and_back_is_exact(released):
    autoencoder = converted(released)
    back = autoencoder_to_released(autoencoder.state_dict(), autoencoder.config)
    assert back.keys() == released.keys()
    for name, value in released.items():
        torch.testing.assert_close(back[name], value.float(), atol=0, rtol=0)


def test_three_levels_of_different_width_agree_too(golden, golden_path):
    """The golden weights are told by a recipe: RandomState(0), sorted keys, std 0.05, then 1 added to norm weights."""
    io = golden("aekl_io")
    config = AutoencoderConfig("latent-diffusion", 3, 3, (32, 64, 128), (2, 2, 2))
    autoencoder = KlVae(config).eval()
    shapes = {name: value.shape for name, value in autoencoder_to_released(autoencoder.state_dict(), config).items()}
    random = np.random.RandomState(0)
    weights = {}
    for name in sorted(shapes):
        values = (random.standard_normal(tuple(shapes[name])) * 0.05).astype(np.float32)
        weights[name] = torch.from_numpy(values + ("norm" in name and name.endswith("weight")))
    state = autoencoder_from_released(weights, config)
    autoencoder.load_state_dict(state, strict=False)
    with torch.no_grad():
        mean, _ = autoencoder.posterior(io["x"])
        torch.testing.assert_close(mean, io["c32m124_mean"], atol=TOLERANCE, rtol=0)
        torch.testing.assert_close(
            autoencoder.decode_posterior(io["c32m124_mean"]), io["c32m124_dec"], atol=TOLERANCE, rtol=0
        )


def test_weights_of_another_network_are_refused(released):
    with pytest.raises(CheckpointError, match="no place"):
        autoencoder_from_released({"somewhere.else.weight": torch.zeros(1)}, autoencoder_config_from_released(released))
    with pytest.raises(CheckpointError, match="not a latent-diffusion autoencoder"):
        autoencoder_config_from_released({"somewhere.else.weight": torch.zeros(1)})


def test_grey_is_repeated_to_rgb_and_the_mean_is_taken_back(released):
    autoencoder = converted(released)
    grey = torch.rand(1, 1, 32, 40, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latent = autoencoder.encode(grey)
        rgb_mean, _ = autoencoder.posterior(grey.repeat(1, 3, 1, 1))
        torch.testing.assert_close(latent, rgb_mean, atol=1e-6, rtol=0)
        decoded = autoencoder.decode(latent)
        assert decoded.shape == grey.shape
        expected = autoencoder.decode_posterior(latent).mean(dim=1, keepdim=True)
        torch.testing.assert_close(decoded, expected, atol=0, rtol=0)


@pytest.mark.parametrize("layout", ["light", "monai"])
def test_latents_are_a_quarter_of_the_image_and_normalised(layout):
    config = (
        AutoencoderConfig(latent_channels=5)
        if layout == "light"
        else AutoencoderConfig("monai", 1, 5, (32, 32, 32), (1, 1, 1))
    )
    torch.manual_seed(0)
    autoencoder = KlVae(config).eval()
    image = torch.rand(2, 1, 68, 44) * 2 - 1
    with torch.no_grad():
        mean, _ = autoencoder.posterior(image)
        autoencoder.set_latent_statistics(mean.mean(dim=(0, 2, 3)), mean.std(dim=(0, 2, 3)))
        latent = autoencoder.encode(image)
        assert latent.shape == (2, 5, 17, 11)
        torch.testing.assert_close(latent.mean(dim=(0, 2, 3)), torch.zeros(5), atol=1e-4, rtol=0)
        torch.testing.assert_close(latent.std(dim=(0, 2, 3)), torch.ones(5), atol=1e-4, rtol=0)
        unnormalised = autoencoder.decode_posterior(mean)
        torch.testing.assert_close(autoencoder.decode(latent), unnormalised, atol=1e-5, rtol=0)


def test_a_decoded_tile_of_the_light_autoencoder_equals_the_whole_once_its_field_is_covered():
    torch.manual_seed(0)
    autoencoder = KlVae(AutoencoderConfig(latent_channels=4)).eval()
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05)
        latent = torch.randn(1, 4, 40, 40)
        whole = autoencoder.decode(latent)
        tile = autoencoder.decode(latent[..., 4:36, 4:36])
    border = 10  # latent pixels: five 3x3 convolutions at quarter resolution, four at half
    inside = slice(4 * border, -4 * border)
    expected = whole[..., 16:144, 16:144][..., inside, inside]
    torch.testing.assert_close(tile[..., inside, inside], expected, atol=1e-5, rtol=0)


def test_the_papers_size_is_four_times_downsampling_with_three_channels():
    with torch.device("meta"):
        autoencoder = KlVae(PAPER_SIZE)
    assert sum(parameter.numel() for parameter in autoencoder.network.encoder.parameters()) > 20e6
    assert PAPER_SIZE.latent_channels == 3


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "other"}, {"channels": (32,)}, {"image_channels": 2}, {"layout": "latent-diffusion"}],
)
def test_a_shape_that_cannot_be_built_is_refused(wrong):
    with pytest.raises(ConfigError):
        AutoencoderConfig(**wrong)
