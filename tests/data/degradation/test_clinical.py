"""How clinical slices are sampled: point spread and noise against independent accounts of them, in HU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import erf

from qdm_med.data.degradation.clinical import ClinicalConfig, ClinicalParams, clinical_noise
from qdm_med.data.degradation.degrade import BENCHMARK, CLINICAL, degrade
from qdm_med.errors import ConfigError, DataError
from qdm_med.intensity import AsinhRange

MAP = AsinhRange()
SHARP = ClinicalParams(4, 0.0, 0.0, floor=0.01, roll_off=1.0, direction=0.0, spread=0.0, isotropic=0.1, noise_seed=3)
NOISY = replace(SHARP, noise_hu=12.0)


def degraded_hu(hu, params):
    return MAP.to_hu(degrade(torch.from_numpy(MAP.to_unit(hu))[None, None], [params], intensity=MAP)[0, 0].numpy())


def test_without_point_spread_and_noise_each_pixel_is_the_mean_of_its_area():
    hu = np.random.default_rng(0).uniform(-900, 1500, (32, 48))
    expected = hu.reshape(8, 4, 12, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(degraded_hu(hu, SHARP), expected, atol=0.52)  # whole HU


@pytest.mark.parametrize("fwhm", [0.8, 2.0])
def test_an_edge_becomes_the_error_function_of_the_stated_width(fwhm):
    """The area mean of a blurred step is the mean of an error function over each large pixel."""
    scale, side = 8, 32 * 8
    hu = np.where(np.arange(side) < side // 2, -500.0, 500.0)[None].repeat(side, 0)
    fine = (np.arange(side * 8) + 0.5) / 64 - 16  # source pixels from the edge, eight times finer still
    sigma = fwhm / 2.3548
    expected = (500 * erf(fine / (sigma * np.sqrt(2)))).reshape(32, 64).mean(axis=1)
    found = degraded_hu(hu, replace(SHARP, scale=scale, fwhm=fwhm))[16]
    np.testing.assert_allclose(found, expected, atol=4.0)


def test_noise_has_the_stated_deviation_and_little_power_at_low_frequencies():
    noise = clinical_noise((64, 64), NOISY)
    assert noise.std() == pytest.approx(12.0, rel=1e-4)
    power = np.abs(np.fft.fft2(noise)) ** 2
    frequency = np.hypot(np.fft.fftfreq(64)[:, None], np.fft.fftfreq(64)[None])
    low, middle = power[frequency < 0.05].mean(), power[(frequency > 0.15) & (frequency < 0.3)].mean()
    assert low < middle / 2


def test_directed_noise_varies_across_its_streaks_and_not_along_them():
    noise = clinical_noise((128, 128), replace(NOISY, direction=0.0, spread=0.25, isotropic=0.05))
    along_rows, along_columns = np.diff(noise, axis=0).std(), np.diff(noise, axis=1).std()
    assert along_columns > 1.5 * along_rows  # power on the column axis: values change from column to column


def test_parameters_are_drawn_within_their_ranges_and_shares():
    config = ClinicalConfig(fwhm=(1.0, 1.5), noise_hu=(5.0, 6.0))
    drawn = [config.draw(4, np.random.default_rng(seed)) for seed in range(400)]
    assert all(one.fwhm == 0 or 1.0 <= one.fwhm <= 1.5 for one in drawn)
    assert all(one.noise_hu == 0 or 5.0 <= one.noise_hu <= 6.0 for one in drawn)
    for share, name in ((config.sharp_share, "fwhm"), (config.quiet_share, "noise_hu")):
        assert np.mean([getattr(one, name) == 0 for one in drawn]) == pytest.approx(share, abs=0.06)
    assert config.draw(4, np.random.default_rng(7)) == drawn[7]


def test_an_image_does_not_depend_on_its_companions():
    images = torch.from_numpy(MAP.to_unit(np.random.default_rng(1).uniform(-900, 900, (3, 1, 32, 32))))
    params = [CLINICAL.draw(4, np.random.default_rng(seed)) for seed in range(3)]
    together = degrade(images, params, intensity=MAP)
    for image, one, expected in zip(images, params, together, strict=True):
        assert torch.equal(degrade(image[None], [one], intensity=MAP)[0], expected)


@pytest.mark.parametrize("wrong", [{"fwhm": (2.0, 1.0)}, {"noise_hu": (0.0, 3.0)}, {"quiet_share": 1.5}])
def test_what_is_no_range_or_share_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ClinicalConfig(**wrong)


def test_families_are_not_mixed_in_a_batch():
    paper = BENCHMARK.draw(4, np.random.default_rng(0))
    with pytest.raises(DataError, match="several families"):
        degrade(torch.zeros(2, 1, 32, 32), [paper, NOISY], intensity=MAP)
