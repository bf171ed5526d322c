import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.evaluation.measures.noise_power import REGION_PX, noise_power, uniform_regions


def noise(sigma: float, blur: float = 0.0, seed: int = 0) -> np.ndarray:
    white = np.random.default_rng(seed).normal(0.0, 1.0, (256, 256))
    image = gaussian_filter(white, blur, mode="wrap") if blur else white
    return (40.0 + sigma * image / image.std()).astype(np.float32)


def spectrum(image: np.ndarray):
    found = noise_power(image, uniform_regions(image))
    assert found is not None
    return found


def test_white_noise_is_flat_and_its_integral_is_its_variance():
    found = spectrum(noise(10.0))
    assert found.noise_hu == pytest.approx(10.0, rel=0.05)
    # Per unit frequency squared, white noise has its variance everywhere; the trend takes the lowest rings.
    np.testing.assert_allclose(found.power[3:], 100.0, rtol=0.2)


def test_the_spectrum_of_filtered_noise_is_the_filters():
    blur = 1.0
    found = spectrum(noise(10.0, blur))
    shape = np.exp(-((2 * np.pi * blur * found.frequency) ** 2))
    rings = slice(4, 12)
    measured = found.power[rings] / found.power[rings].sum()
    np.testing.assert_allclose(measured, shape[rings] / shape[rings].sum(), rtol=0.35, atol=0.01)
    assert found.mean_frequency < 0.6 * spectrum(noise(10.0)).mean_frequency


def test_twice_the_noise_is_four_times_the_power():
    image = noise(10.0)
    regions = uniform_regions(image)
    one, two = noise_power(image, regions), noise_power(40 + 2 * (image - 40), regions)
    assert one is not None
    assert two is not None
    assert two.noise_hu == pytest.approx(2 * one.noise_hu)
    np.testing.assert_allclose(two.power[1:], 4 * one.power[1:], rtol=1e-4)


def test_a_slow_trend_is_no_noise():
    row, column = np.mgrid[-1:1:256j, -1:1:256j]
    trend = 30 * row + 20 * column**2 + 10 * row * column
    plain, tilted = noise_power(noise(10.0), PLACES), noise_power(noise(10.0) + trend.astype(np.float32), PLACES)
    assert plain is not None
    assert tilted is not None
    assert tilted.noise_hu == pytest.approx(plain.noise_hu, rel=1e-3)


PLACES = [(slice(row, row + REGION_PX), slice(0, REGION_PX)) for row in range(0, 160, REGION_PX)]


def test_regions_are_uniform_soft_tissue():
    image = noise(5.0)
    image[:128] = -800.0  # lung
    image[:, 200:] += np.where(np.arange(56) % 8 < 4, 200, 0).astype(np.float32)  # structure
    regions = uniform_regions(image)
    assert len(regions) == 16
    assert all(rows.start >= 128 and columns.stop <= 208 for rows, columns in regions)


def test_too_few_regions_say_nothing():
    assert noise_power(noise(5.0), PLACES[:3]) is None
