"""Displacement, segmentation and data consistency: each against an answer known beforehand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import shift

from qdm_med.data.degradation.degrade import BENCHMARK, SCANNER, degrade
from qdm_med.evaluation.measures.data_consistency import data_consistency, project
from qdm_med.evaluation.measures.displacement import displacement
from qdm_med.evaluation.measures.segmentation import bone_dice, dice, lung_dice
from qdm_med.evaluation.measures.tissues import body_mask
from qdm_med.intensity import CompandedRange
from tests.evaluation.phantoms import chest

MAP = CompandedRange()


@pytest.mark.parametrize("by", [(0.5, 0.0), (0.0, -0.5), (0.25, 0.75), (-2.0, 1.0)])
def test_a_displacement_is_found_with_its_sign_to_a_tenth_of_a_pixel(by):
    truth = chest()
    found = displacement(shift(truth, by, order=3, mode="nearest"), truth)
    np.testing.assert_allclose(found, by, atol=0.1)


def test_nothing_moved_is_no_displacement_and_nothing_there_is_no_answer():
    truth = chest()
    assert np.hypot(*displacement(truth, truth)) == 0.0
    assert np.hypot(*displacement(truth + 10, truth)) == 0.0
    assert all(map(math.isnan, displacement(truth, np.zeros_like(truth))))


def test_dice_by_hand():
    first, second = np.zeros((2, 20, 20), dtype=bool)
    first[:10], second[5:15] = True, True
    assert dice(first, second) == 0.5
    assert dice(first, first) == 1.0
    assert math.isnan(dice(first, np.zeros_like(first)))


def test_masks_are_of_the_body_not_of_the_air_or_the_table():
    truth = chest()
    truth[250:254, 20:230] = 400.0  # a table
    body = body_mask(truth)
    assert 0.3 < body.mean() < 0.6
    assert not body[250:].any()
    assert not body[:10].any()
    assert body[128, 128 - 51]  # lung is enclosed
    assert lung_dice(truth, truth, body) == bone_dice(truth, truth, body) == 1.0
    wrong = truth.copy()
    wrong[body & (truth < -500)] = 0.0
    assert lung_dice(wrong, truth, body) == 0.0
    assert bone_dice(wrong, truth, body) == 1.0
    assert not body_mask(np.full((64, 64), -1000.0)).any()


def degraded(truth: np.ndarray, seed: int, scale: int = 4):
    params = BENCHMARK.draw(scale, np.random.default_rng(seed))
    return degrade(torch.from_numpy(MAP.to_unit(truth))[None, None], [params]), params


@pytest.mark.parametrize("seed", range(4))
def test_the_projection_is_the_degradation_without_its_noise(seed):
    truth = chest()
    noisy, params = degraded(truth, seed)
    clean = project(truth, params, MAP)
    residual = MAP.to_unit(MAP.to_hu(noisy[0, 0].numpy())) - MAP.to_unit(clean)
    # 15 grey levels of noise at most, of 127.5 a unit, before the last resize averages some of it away.
    assert residual.std() < 16 / 127.5
    assert project(truth, params, MAP).shape == (64, 64)
    assert np.array_equal(project(truth, params, MAP), clean)


def test_a_scanners_projection_keeps_its_kernel_and_leaves_its_noise_alone():
    truth = chest()
    params = SCANNER.draw(4, np.random.default_rng(0))
    low_hu = MAP.to_hu(degrade(torch.from_numpy(MAP.to_unit(truth))[None, None], [params], intensity=MAP)[0, 0].numpy())
    noise = project(truth, params, MAP) - low_hu
    assert 0.2 * params.noise_hu < noise[low_hu > -900].std() < 1.3 * params.noise_hu  # air is clipped at -1024 HU
    smoother = replace(params, kernel_frequency=params.kernel_frequency / 2)
    assert np.abs(project(truth, smoother, MAP) - project(truth, params, MAP)).max() > 20


def test_without_noise_a_perfect_image_is_consistent_to_a_hundredth_of_a_hu():
    truth = chest()
    _, params = degraded(truth, 0)
    quiet = params.noise_free()
    low_hu = MAP.to_hu(degrade(torch.from_numpy(MAP.to_unit(truth))[None, None], [quiet])[0, 0].numpy())
    perfect = data_consistency(truth, low_hu, params, MAP)
    assert max(abs(perfect.bias_hu), perfect.mae_hu, perfect.smooth_hu) < 0.01
    drifted = data_consistency(truth + 10, low_hu, params, MAP)
    assert drifted.bias_hu == pytest.approx(10.0, abs=1.0)
    assert drifted.mae_hu == pytest.approx(10.0, abs=1.0)


def test_smoothing_takes_noise_away_and_leaves_structure():
    truth = chest()
    _, params = degraded(truth, 0)
    low_hu = project(truth, params, MAP)
    noise = np.random.default_rng(0).normal(0, 30, low_hu.shape).astype(np.float32)
    noisy = data_consistency(truth, low_hu + noise, params, MAP)
    assert noisy.smooth_hu < 0.45 * noisy.mae_hu / 0.8
    structure = np.kron(np.where(np.random.default_rng(1).random((8, 8)) < 0.5, 30, -30), np.ones((8, 8)))
    invented = data_consistency(truth, low_hu + structure.astype(np.float32), params, MAP)
    assert invented.smooth_hu > 0.8 * invented.mae_hu
