"""The codebook: nearest codes, a gradient that goes straight through, two losses that each move their own side."""

from __future__ import annotations

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder import vq
from qdm_med.models.autoencoder.vq import VectorQuantiser, VqAutoencoder, VqConfig

SMALL = VqConfig("light", 16, 3, (8, 16), (1, 1))


@pytest.fixture
def quantiser():
    torch.manual_seed(0)
    made = VectorQuantiser(16, 3)
    torch.nn.init.normal_(made.embedding.weight)
    return made


def test_every_latent_pixel_goes_to_its_nearest_code_in_any_chunks(quantiser, monkeypatch):
    z = torch.randn(2, 3, 5, 7)
    codes = quantiser.embedding.weight
    expected = torch.stack([(z.movedim(1, -1) - code).norm(dim=-1) for code in codes]).argmin(dim=0)
    assert torch.equal(quantiser.nearest(z), expected)
    monkeypatch.setattr(vq, "CHUNK", 4)
    assert torch.equal(quantiser.nearest(z), expected)
    torch.testing.assert_close(quantiser(z).latent.movedim(1, -1), codes[expected], atol=1e-6, rtol=0)


def test_the_gradient_goes_straight_through_to_what_was_quantised(quantiser):
    z = torch.randn(1, 3, 4, 4, requires_grad=True)
    weight = torch.randn(1, 3, 4, 4)
    (quantiser(z).latent * weight).sum().backward()
    torch.testing.assert_close(z.grad, weight)
    assert quantiser.embedding.weight.grad is None


def test_the_codebook_loss_moves_codes_alone_and_commitment_the_encoder_alone(quantiser):
    z = torch.randn(1, 3, 4, 4, requires_grad=True)
    found = quantiser(z)
    torch.testing.assert_close(found.codebook, found.commitment)
    chosen = quantiser.embedding.weight[found.codes].movedim(-1, 1)
    torch.testing.assert_close(found.codebook, (z - chosen).square().mean())
    (codes_grad,) = torch.autograd.grad(found.codebook, quantiser.embedding.weight)
    assert codes_grad.abs().sum() > 0
    (z_grad,) = torch.autograd.grad(found.commitment, z)
    torch.testing.assert_close(z_grad, 2 * (z - chosen).detach() / z.numel())


@pytest.mark.parametrize("config", [SMALL, VqConfig("latent-diffusion", 16, 3, (32, 32, 32), (1, 1, 1))])
def test_colour_goes_through_and_latents_are_a_quarter_and_normalised(config):
    torch.manual_seed(0)
    autoencoder = VqAutoencoder(config).eval()
    image = torch.rand(2, 3, 36, 44) * 2 - 1
    with torch.no_grad():
        latents = autoencoder.latents(image)
        autoencoder.set_latent_statistics(latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3)))
        latent = autoencoder.encode(image)
        assert latent.shape == (2, 3, 9, 11)
        torch.testing.assert_close(latent.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-3, rtol=0)
        decoded = autoencoder.decode(latent)
        torch.testing.assert_close(decoded, autoencoder.reconstruct(image).image, atol=1e-4, rtol=0)
    assert decoded.shape == image.shape
    assert not torch.allclose(decoded[:, 0], decoded[:, 1])


@pytest.mark.parametrize("wrong", [{"channels": (32,)}, {"codes": 1}, {"layout": "light"}, {"res_blocks": (1, 2, 2)}])
def test_a_shape_that_cannot_be_built_is_refused(wrong):
    with pytest.raises(ConfigError):
        VqConfig(**wrong)
