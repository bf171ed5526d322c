"""Noise that a network promoted is taken back to interpolation's, and nothing else is touched."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.inference.noise_guard import faintness, limit_noise


def noisy(deviation=5.0, shape=(48, 48), seed=0):
    rng = np.random.default_rng(seed)
    white = gaussian_filter(rng.standard_normal(shape), 0.7)
    smooth = white - gaussian_filter(white, 2.0)  # like a CT's, without power at low frequencies
    return (40 + deviation * smooth / smooth.std()).astype(np.float32)


def interpolated(source, scale=4):
    import torch

    image = torch.from_numpy(source)[None, None]
    return torch.nn.functional.interpolate(image, scale_factor=scale, mode="bicubic")[0, 0].numpy()


@pytest.mark.parametrize("gain", [1.5, 3.0])
def test_amplified_noise_comes_back_to_what_interpolation_shows(gain):
    source = noisy()
    plain = interpolated(source)
    limited = limit_noise(40 + gain * (plain - 40), source, 4)
    # The local mean itself, which agreement with the source sets, is not touched: a little of the noise is left in it.
    assert 0.85 < limited.std() / plain.std() < 1.3
    assert abs(limited.mean() - source.mean()) < 0.5


def test_noise_is_kept_down_right_up_to_an_edge():
    source = noisy()
    source[:, 24:] += 900
    plain = interpolated(source)
    strong = plain.copy()
    strong[:, : 21 * 4] = 40 + 2 * (plain[:, : 21 * 4] - 40)
    limited = limit_noise(strong, source, 4)
    beside = slice(16 * 4, 19 * 4)  # five to eight source pixels from the edge
    assert limited[:, beside].std() < 1.4 * plain[:, beside].std()


def test_what_the_network_made_quieter_stays_as_it_is():
    source = noisy()
    quiet = (40 + 0.4 * (interpolated(source) - 40)).astype(np.float32)
    np.testing.assert_allclose(limit_noise(quiet, source, 4), quiet, atol=0.3)


def test_edges_keep_the_sharpness_that_the_network_gave_them():
    source = noisy(3.0)
    source[:, 24:] += 800
    sharp = np.kron(source, np.ones((4, 4), dtype=np.float32))
    limited = limit_noise(sharp, source, 4)
    near = slice(24 * 4 - 6, 24 * 4 + 6)
    np.testing.assert_allclose(limited[:, near], sharp[:, near], atol=1.0)
    assert faintness(source)[:, 22:26].max() == 0.0
    assert faintness(source)[:, :16].min() == 1.0


def test_the_level_of_hu_makes_no_difference():
    source = noisy()
    strong = (40 + 2 * (interpolated(source) - 40)).astype(np.float32)
    low, high = limit_noise(strong - 990, source - 990, 4) + 990, limit_noise(strong + 2500, source + 2500, 4) - 2500
    np.testing.assert_allclose(low, high, atol=0.05)
