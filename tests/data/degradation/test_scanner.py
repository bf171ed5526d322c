"""The family closer to CT: each step against an independent account of it, in HU."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qdm_med.data.degradation.degrade import BENCHMARK, SCANNER, degrade
from qdm_med.data.degradation.scanner import ScannerParams
from qdm_med.errors import ConfigError, DataError
from qdm_med.intensity import CompandedRange, HuWindow

OPEN = ScannerParams(scale=4, kernel_frequency=1e6, kernel_boost=0.0, noise_hu=1e-9, noise_seed=0)
"""A kernel that passes everything, and no noise."""

MAP = CompandedRange()


def degraded_hu(hu, params, intensity=MAP):
    """The scanner's image of ``(H, W)`` HU, in HU."""
    unit = torch.from_numpy(intensity.to_unit(hu))[None, None]
    return intensity.to_hu(degrade(unit, [params], intensity=intensity)[0, 0].numpy())


def anatomy(side=64):
    """Air, fat, muscle and bone in textured blocks, whose borders lie within low-resolution pixels."""
    rng = np.random.default_rng(0)
    blocks = rng.choice([-1000.0, -100.0, 50.0, 900.0], (side // 16, side // 16))
    return np.roll(np.kron(blocks, np.ones((16, 16))), (2, 1), axis=(0, 1)) + rng.integers(-20, 21, (side, side))


def noise_of(params, size, level=40.0):
    """What the noise adds to a flat slice; ``size`` low-resolution pixels a side."""
    return degraded_hu(np.full((size * params.scale,) * 2, level), params) - level


def test_with_an_open_kernel_and_no_noise_each_pixel_is_the_mean_attenuation_of_its_area():
    hu = anatomy()
    expected = hu.reshape(16, 4, 16, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(degraded_hu(hu, OPEN), expected, atol=0.51)  # whole HU
    # which is not the mean of network values, where air, tissue and bone weigh differently:
    unit = F.avg_pool2d(torch.from_numpy(MAP.to_unit(hu))[None, None], 4)[0, 0].numpy()
    assert np.abs(MAP.to_hu(unit) - expected).max() > 20


@pytest.mark.parametrize("boost", [0.0, 1.5])
@pytest.mark.parametrize("cycles", [2, 8, 20])
def test_a_wave_is_passed_as_the_kernels_transfer_function_says(boost, cycles):
    size, amplitude = 64, 100.0
    params = replace(OPEN, scale=1, kernel_frequency=0.3, kernel_boost=boost)
    column = np.arange(size)
    wave = np.cos(2 * np.pi * cycles * (column + 0.5) / (2 * size))  # continues itself beyond mirrors at the borders
    passed = degraded_hu(np.tile(amplitude * wave, (size, 1)), params)
    x = np.log(2) * (cycles / (2 * size) / 0.3) ** 2
    np.testing.assert_allclose(passed, amplitude * (1 + boost * x) * np.exp(-x) * np.tile(wave, (size, 1)), atol=0.51)


@pytest.mark.parametrize("side", [30, 31])
def test_what_is_flat_stays_flat_and_nothing_crosses_to_the_opposite_border(side):
    params = replace(OPEN, scale=1, kernel_frequency=0.25)
    assert np.ptp(degraded_hu(np.full((side, side), 40.0), params)) == 0
    half = np.full((side, side), 0.0)
    half[:, side // 2 :] = 200.0
    passed = degraded_hu(half, params).round()
    assert (passed[:, :8] == 0).all()
    assert (passed[:, -8:] == 200).all()


@pytest.mark.parametrize("scale", [4, 8])
def test_noise_has_its_strength_in_hu_under_an_open_kernel(scale):
    noise = noise_of(replace(OPEN, scale=scale, noise_hu=20.0), 128)
    assert noise.std() == pytest.approx(20.0, rel=0.02)
    assert noise.mean() == pytest.approx(0.0, abs=0.05)  # the ramp passes no constant


@pytest.mark.parametrize(("frequency", "boost"), [(1e6, 0.0), (0.25, 0.0), (0.5, 1.5)])
def test_the_noise_power_spectrum_is_the_ramp_times_the_squared_transfer_function(frequency, boost):
    size = 64
    params = replace(OPEN, scale=1, noise_hu=30.0, kernel_frequency=frequency, kernel_boost=boost)
    power = np.mean(
        [np.abs(np.fft.fft2(noise_of(replace(params, noise_seed=seed), size))) ** 2 for seed in range(40)], axis=0
    )
    f = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.fftfreq(size)[None])
    x = np.log(2) * (f / frequency) ** 2
    expected = 30.0**2 * size**2 * f / f.mean() * ((1 + boost * x) * np.exp(-x)) ** 2
    for low in np.arange(0.05, 0.5, 0.05):
        ring = (f >= low) & (f < low + 0.05)
        rounding = size**2 / 12
        assert power[ring].mean() == pytest.approx(expected[ring].mean() + rounding, rel=0.1)


def test_noise_is_equally_strong_everywhere_in_hu_and_so_strongest_in_soft_tissue_in_network_units():
    params = replace(OPEN, noise_hu=15.0)
    unit = {}
    for name, level in (("lung", -700.0), ("tissue", 40.0), ("bone", 1000.0)):
        assert noise_of(params, 64, level).std() == pytest.approx(15.0, rel=0.05)
        image = torch.from_numpy(MAP.to_unit(np.full((256, 256), level)))[None, None]
        unit[name] = float(degrade(image, [params]).std())
    assert unit["tissue"] / unit["lung"] == pytest.approx(1648 / 419, rel=0.05)
    assert unit["tissue"] / unit["bone"] == pytest.approx(6291 / 419, rel=0.05)


def test_a_slice_has_the_same_noise_in_hu_under_either_mapping():
    params, window = replace(OPEN, noise_hu=10.0), HuWindow(40.0, 400.0)
    hu = np.full((64, 64), 40.0)
    np.testing.assert_array_equal(np.round(degraded_hu(hu, params)), np.round(degraded_hu(hu, params, window)))


def test_the_result_is_whole_hu_within_the_range():
    params = replace(OPEN, noise_hu=50.0, kernel_boost=1.8, kernel_frequency=0.5)
    hu = degraded_hu(np.where(np.indices((64, 64))[0] < 32, -1024.0, 3071.0), params)
    np.testing.assert_allclose(hu, np.round(hu), atol=2e-3)  # float32 network units, 6291 HU each in bone
    assert hu.min() == -1024
    assert hu.max() == 3071


def test_drawn_parameters_fill_their_ranges_and_noise_is_drawn_by_its_logarithm():
    params = [SCANNER.draw(8, np.random.default_rng([1, item])) for item in range(2000)]
    for name in ("kernel_frequency", "kernel_boost", "noise_hu"):
        low, high = getattr(SCANNER, name)
        values = [getattr(one, name) for one in params]
        assert low <= min(values) < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < max(values) <= high
    assert np.median([one.noise_hu for one in params]) == pytest.approx(np.sqrt(3 * 50), rel=0.1)
    assert len({one.noise_seed for one in params}) == len(params)


@pytest.mark.parametrize(
    "wrong", [{"kernel_frequency": (0.0, 0.5)}, {"kernel_boost": (-0.1, 1.0)}, {"noise_hu": (5.0, 3.0)}]
)
def test_a_contradictory_configuration_names_the_field(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(SCANNER, **wrong)


def test_an_image_of_one_pixel_is_refused():
    with pytest.raises(DataError, match="4x4 is smaller than two pixels at scale 4"):
        degrade(torch.zeros(1, 1, 4, 4), [OPEN])


def test_the_benchmarks_are_not_of_this_family():
    assert not isinstance(BENCHMARK.draw(4, np.random.default_rng(0)), ScannerParams)
