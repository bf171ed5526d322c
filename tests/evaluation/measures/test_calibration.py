import math

import numpy as np
import pytest

from qdm_med.evaluation.measures.calibration import calibration, fit_spread
from qdm_med.uncertainty import reach_of_samples

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
    found = calibration(mean, std, truth, MASK, reach=reach_of_samples(samples))
    assert found.coverage == pytest.approx(0.95, abs=0.005)
    assert found.std_hu == pytest.approx(std.mean())


def test_samples_that_are_too_sure_cover_less_and_too_unsure_more():
    sure, right, unsure = (
        calibration(*drawn(8, spread), MASK, reach=reach_of_samples(8)).coverage for spread in (0.5, 1.0, 2.0)
    )
    assert sure < 0.8 < right < 0.97 < unsure


def test_a_map_that_knows_where_the_errors_are_correlates_with_them():
    mean, std, truth = drawn(16)
    assert calibration(mean, std, truth, MASK).correlation > 0.3
    shuffled = np.random.default_rng(1).permutation(std.ravel()).reshape(std.shape)
    assert abs(calibration(mean, shuffled, truth, MASK).correlation) < 0.02


def test_masks_choose_pixels_and_nothing_gives_nothing():
    mean, std, truth = drawn(4)
    half = MASK.copy()
    half[:, :150] = False
    std[:, :150] = 0.0
    reach = reach_of_samples(4)
    assert calibration(mean, std, truth, half, reach=reach).coverage == pytest.approx(0.95, abs=0.01)
    assert calibration(mean, std, truth, ~half, reach=reach).coverage == 0.0
    assert math.isnan(calibration(mean, std, truth, ~half, reach=reach).correlation)
    assert calibration(mean, std, truth, ~MASK) is None


def spread_and_errors(factor: float, floor: float, tail: float | None = None, seed: int = 0):
    """Standard deviations, and errors of which these are ``sqrt((factor std)^2 + floor^2)``; with a tail, of Student's t."""
    rng = np.random.default_rng(seed)
    std = rng.gamma(1.0, 12.0, 200_000)
    noise = rng.normal(size=std.shape) if tail is None else rng.standard_t(tail, std.shape)
    return std, np.abs(np.hypot(factor * std, floor) * noise)


@pytest.mark.parametrize(("factor", "floor"), [(2.6, 28.0), (1.0, 0.0), (4.0, 5.0), (0.5, 60.0)])
def test_a_planted_factor_and_floor_are_found(factor, floor):
    std, error = spread_and_errors(factor, floor)
    found = fit_spread(error, std)
    assert found[0] == pytest.approx(factor, rel=0.06)
    assert found[1] == pytest.approx(floor, rel=0.03, abs=0.5)


def test_heavy_tails_are_covered_just_as_well_on_pixels_that_had_no_part_in_the_fit():
    std, error = spread_and_errors(2.0, 20.0, tail=3.0)
    factor, floor = fit_spread(error, std)
    std, error = spread_and_errors(2.0, 20.0, tail=3.0, seed=1)
    assert np.mean(error <= 1.96 * np.hypot(factor * std, floor)) == pytest.approx(0.95, abs=0.003)
    wide = std > np.quantile(std, 0.8)
    assert np.mean((error <= 1.96 * np.hypot(factor * std, floor))[wide]) == pytest.approx(0.95, abs=0.01)
