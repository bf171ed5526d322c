"""Hard and soft consistency: block means, ranges, and no more change than they need."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.data.noise_level import noise_hu
from qdm_med.inference.consistency import hard_consistency, soft_consistency
from qdm_med.resample import block_mean

RNG = np.random.default_rng(0)


def smooth(side: int, seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 4, mode="wrap")
    return (1500 * noise / np.abs(noise).max()).astype(np.float32)


def source_and_fine(scale: int, error_hu: float = 60.0) -> tuple[np.ndarray, np.ndarray]:
    """A source and an image that is wrong by a slow drift and by noise."""
    fine = np.clip(smooth(32 * scale, 1), -1024, 3071)
    drift = error_hu / 1500 * smooth(32 * scale, 2) + RNG.normal(0, error_hu / 3, fine.shape)
    return block_mean(fine, scale), (fine + drift).astype(np.float32)


@pytest.mark.parametrize("scale", [4, 8])
def test_hard_block_means_are_the_source_to_half_a_stored_unit_after_rounding(scale):
    source, fine = source_and_fine(scale)
    matched = hard_consistency(fine, source, scale)
    assert matched.dtype == np.float32
    np.testing.assert_allclose(block_mean(matched.astype(np.float64), scale), source, atol=1e-3)
    for unit in (1.0, 0.5):
        stored = np.rint(matched.astype(np.float64) / unit) * unit
        assert np.abs(block_mean(stored, scale) - source).max() <= unit / 2


def test_air_and_metal_at_the_ends_of_the_range_keep_their_mean_and_the_range():
    source = np.array([[-1024.0, -1023.0], [3071.0, 3000.0]], dtype=np.float32)
    fine = (np.kron(source, np.ones((4, 4))) + RNG.normal(0, 80, (8, 8))).astype(np.float32)
    matched = hard_consistency(fine, source, 4)
    np.testing.assert_allclose(block_mean(matched.astype(np.float64), 4), source, atol=1e-3)
    assert matched.min() >= -1024
    assert matched.max() <= 3071


def test_hu_beyond_the_range_are_matched_to_its_end():
    matched = hard_consistency(np.zeros((8, 8), dtype=np.float32), np.full((2, 2), 9000.0, dtype=np.float32), 4)
    assert (matched == 3071.0).all()


def test_what_is_consistent_already_is_not_changed():
    fine = np.clip(smooth(64, 3), -1024, 3071)
    source = block_mean(fine.astype(np.float64), 4)
    np.testing.assert_allclose(hard_consistency(fine, source, 4), fine, atol=1e-3)
    np.testing.assert_allclose(soft_consistency(fine, source, 4), fine, atol=1e-3)


def test_a_slow_drift_is_taken_away_without_showing_the_blocks():
    scale, side = 4, 128
    truth = np.clip(smooth(side, 4), -1000, 1000)
    drifted = truth + 0.1 * smooth(side, 5)
    matched = hard_consistency(drifted, block_mean(truth, scale), scale)
    assert np.abs(matched - truth).mean() < 0.15 * np.abs(drifted - truth).mean()
    error = np.abs(np.diff(matched - truth, axis=1))
    across = error[:, scale - 1 :: scale].mean()
    assert across < 2 * np.delete(error, np.s_[scale - 1 :: scale], axis=1).mean()


def test_every_block_is_the_nearest_one_with_its_mean():
    """The projection leaves the order and the differences of unclipped pixels alone."""
    source = np.array([[-850.0]], dtype=np.float32)
    fine = np.array([[-1100.0, -800.0], [-700.0, -500.0]], dtype=np.float32)
    matched = hard_consistency(fine, source, 2)
    assert matched.mean() == pytest.approx(-850.0, abs=1e-3)
    assert matched[0, 0] == -1024.0
    np.testing.assert_allclose(np.diff(matched.ravel()[1:]), np.diff(fine.ravel()[1:]), atol=1e-3)


@pytest.mark.parametrize("scale", [4, 8])
def test_soft_block_means_stay_within_the_noise_of_the_source(scale):
    source, fine = source_and_fine(scale)
    matched = soft_consistency(fine, source, scale, noise=10.0)
    apart = np.abs(block_mean(matched.astype(np.float64), scale) - source)
    assert apart.max() <= 20.0 + 1e-3
    assert apart.max() > 19.0
    inside = np.abs(block_mean(fine.astype(np.float64), scale) - source) < 20.0
    own = np.clip(block_mean(fine.astype(np.float64), scale), -1024, 3071)
    np.testing.assert_allclose(block_mean(matched.astype(np.float64), scale)[inside], own[inside], atol=1e-3)


def test_without_noise_soft_is_hard():
    source, fine = source_and_fine(4)
    np.testing.assert_allclose(
        soft_consistency(fine, source, 4, noise=0.0), hard_consistency(fine, source, 4), atol=1e-3
    )


@pytest.mark.parametrize("sigma", [0.0, 5.0, 30.0])
def test_noise_is_told_from_structure(sigma):
    row, column = np.mgrid[:128, :128]
    structure = np.where(np.hypot(row - 60, column - 70) < 40, 50.0, -800.0) + 0.5 * row
    noisy = structure + np.random.default_rng(1).normal(0, sigma, structure.shape)
    assert noise_hu(noisy.astype(np.float32)) == pytest.approx(sigma, rel=0.1, abs=1e-3)


def test_tiny_slices_have_no_measurable_noise():
    assert noise_hu(np.zeros((2, 9), dtype=np.float32)) == 0.0
    assert hard_consistency(np.zeros((4, 4), dtype=np.float32), np.ones((1, 1), dtype=np.float32), 4).mean() == 1.0
