import math

import numpy as np
import pytest

from qdm_med.evaluation.fidelity.calibration import calibration

MASK = np.ones((300, 300), dtype=bool)


def drawn(samples: int, spread: float = 1.0, seed: int = 0):
    """Samples of a known posterior whose width varies from pixel to pixel, and one more draw as the truth."""
    rng = np.random.default_rng(seed)
    width = rng.uniform(5.0, 50.0, MASK.shape)
    centre = rng.normal(0.0, 300.0, MASK.shape)
    truth, *rest = (centre + width * rng.normal(size=MASK.shape) for _ in range(samples + 1))
    stack = np.stack([centre + (one - centre) * spread for one in rest])
    return stack.mean(axis=0), stack.std(axis=0, ddof=1), truth


@pytest.mark.parametrize("samples", [2, 4, 16])
def test_a_truth_that_is_one_more_sample_is_covered_95_times_of_100(samples):
    mean, std, truth = drawn(samples)
    found = calibration(mean, std, truth, samples, MASK)
    assert found.coverage == pytest.approx(0.95, abs=0.005)
    assert found.std_hu == pytest.approx(std.mean())


def test_samples_that_are_too_sure_cover_less_and_too_unsure_more():
    sure, right, unsure = (calibration(*drawn(8, spread), 8, MASK).coverage for spread in (0.5, 1.0, 2.0))
    assert sure < 0.8 < right < 0.97 < unsure


def test_a_map_that_knows_where_the_errors_are_correlates_with_them():
    mean, std, truth = drawn(16)
    assert calibration(mean, std, truth, 16, MASK).correlation > 0.3
    shuffled = np.random.default_rng(1).permutation(std.ravel()).reshape(std.shape)
    assert abs(calibration(mean, shuffled, truth, 16, MASK).correlation) < 0.02


def test_masks_choose_pixels_and_nothing_gives_nothing():
    mean, std, truth = drawn(4)
    half = MASK.copy()
    half[:, :150] = False
    std[:, :150] = 0.0
    assert calibration(mean, std, truth, 4, half).coverage == pytest.approx(0.95, abs=0.01)
    assert calibration(mean, std, truth, 4, ~half).coverage == 0.0
    assert math.isnan(calibration(mean, std, truth, 4, ~half).correlation)
    assert calibration(mean, std, truth, 4, ~MASK) is None
