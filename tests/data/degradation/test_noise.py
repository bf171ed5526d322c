import pytest
import torch

from qdm_med.data.degradation.noise import POISSON_LEVELS, add_gaussian_noise, add_poisson_noise

FLAT = torch.full((3, 200, 200), 0.4)


def test_gaussian_noise_has_its_standard_deviation():
    noise = add_gaussian_noise(FLAT, sigma=0.03, grey=False, seed=1) - FLAT
    assert float(noise.std()) == pytest.approx(0.03, rel=0.02)
    assert float(noise.mean()) == pytest.approx(0.0, abs=5e-4)


@pytest.mark.parametrize("level", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("scale", [0.3, 1.0])
def test_photon_noise_grows_with_the_square_root_of_the_signal(level, scale):
    image = torch.full((1, 300, 300), level)
    noise = add_poisson_noise(image, scale=scale, grey=False, seed=2) - image
    assert float(noise.std()) == pytest.approx(scale * (level / POISSON_LEVELS) ** 0.5, rel=0.03)
    assert float(noise.mean()) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    "add",
    [
        lambda image, grey, seed: add_gaussian_noise(image, sigma=0.05, grey=grey, seed=seed),
        lambda image, grey, seed: add_poisson_noise(image, scale=1.0, grey=grey, seed=seed),
    ],
)
def test_grey_noise_is_one_noise_for_all_channels(add):
    grey, colour = add(FLAT, True, 3) - FLAT, add(FLAT, False, 3) - FLAT
    torch.testing.assert_close(grey[0], grey[1], rtol=0, atol=0)
    assert not torch.equal(colour[0], colour[1])
    assert torch.equal(add(FLAT, False, 3), add(FLAT, False, 3))
    assert not torch.equal(add(FLAT, False, 3), add(FLAT, False, 4))


def test_one_channel_does_not_know_grey_from_colour():
    image = torch.rand(1, 32, 32, generator=torch.Generator().manual_seed(0))
    for grey in (True, False):
        assert torch.equal(
            add_poisson_noise(image, scale=0.5, grey=grey, seed=4),
            add_poisson_noise(image, scale=0.5, grey=True, seed=4),
        )


def test_black_has_no_photon_noise_and_nothing_leaves_the_range():
    black = torch.zeros(1, 16, 16)
    assert torch.equal(add_poisson_noise(black, scale=3.0, grey=False, seed=5), black)
    bright = add_gaussian_noise(torch.ones(1, 64, 64), sigma=0.5, grey=False, seed=6)
    assert float(bright.max()) == 1.0
    assert float(bright.min()) >= 0.0
