"""Mean error of tissues as a loss, against the evaluation's own columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.agreement import tissue_means
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.intensity import AsinhRange, CompandedRange, HuWindow
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.tissue_bias import TissueBias
from tests.training.test_objective import batch, objective

MIDDLES = {"lung": -725.0, "fat": -90.0, "soft_tissue": 40.0, "contrast_medium": 325.0, "bone": 1660.5}
"""HU at the middle of each tissue's range."""


def images(hu, intensity):
    return torch.from_numpy(intensity.to_unit(np.asarray(hu, np.float32)))[None, None]


def penalty(bias_hu, at_hu, intensity):
    bias = abs(bias_hu) / intensity.hu_per_unit(at_hu)
    return bias + bias**2 / 0.01


def found(answer, truth, intensity):
    return float(TissueBias(intensity)(images(answer, intensity), images(truth, intensity)))


@pytest.mark.parametrize(
    ("hu", "names"),
    [
        (-800.0, ["lung"]),
        (-90.0, ["fat", "soft_tissue"]),
        (50.0, ["soft_tissue"]),
        (200.0, ["soft_tissue", "contrast_medium"]),
        (300.0, ["contrast_medium", "bone"]),
        (900.0, ["bone"]),
    ],
)
def test_a_shift_counts_in_every_tissue_that_it_is_of_and_in_the_patient(hu, names):
    intensity = AsinhRange()
    flat = np.full((32, 32), hu)
    expected = sum(penalty(10, MIDDLES[name], intensity) for name in names) + penalty(10, 40.0, intensity)
    assert found(flat + 10, flat, intensity) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("seed", [1, 2])
def test_of_a_tissue_the_interior_counts_as_the_evaluation_finds_it(seed):
    """Muscle in air, of any outline, 6 HU off inside and 40 HU at its edges."""
    rng = np.random.default_rng(seed)
    intensity = CompandedRange()
    blocks = np.kron(rng.random((8, 8)) < 0.7, np.ones((12, 12))).astype(bool)
    hu = np.where(blocks, 50.0, -1000.0)
    soft = next(tissue for tissue in TISSUES if tissue.name == "soft_tissue")
    inside = soft.interior(hu)
    answer = np.where(inside, hu + 6, np.where(blocks, hu + 40, hu)).astype(np.float32)
    measured, true = tissue_means(answer, hu.astype(np.float32), soft)
    whole = (answer - hu)[blocks].mean()
    expected = penalty(measured - true, 40.0, intensity) + penalty(whole, 40.0, intensity)
    assert measured - true == pytest.approx(6.0)
    assert found(answer, hu, intensity) == pytest.approx(expected, rel=0.01)


def test_tissues_are_found_in_the_reference():
    """Muscle that comes out as bone is muscle 300 HU off, and nothing is said of bone."""
    intensity = AsinhRange()
    flat = np.full((32, 32), 50.0)
    assert found(flat + 300, flat, intensity) == pytest.approx(2 * penalty(300, 40.0, intensity), rel=0.01)


@pytest.mark.parametrize(("side", "counts"), [(11, False), (12, True)])
def test_an_interior_of_less_than_64_pixels_says_nothing(side, counts):
    intensity = AsinhRange()
    hu = np.full((64, 64), -1000.0)
    hu[8 : 8 + side, 8 : 8 + side] = 900.0  # (side - 4)^2 interior pixels
    expected = penalty(50, 40.0, intensity) + counts * penalty(50, MIDDLES["bone"], intensity)
    assert found(hu - 50 * (hu > 0), hu, intensity) == pytest.approx(expected, rel=0.01)


def test_errors_without_a_mean_do_not_count():
    checks = np.where(np.indices((64, 64)).sum(0) % 2 == 0, 20.0, -20.0)
    flat = np.full((64, 64), 40.0)
    assert found(flat + checks, flat, AsinhRange()) < 1e-3


def test_what_a_window_clips_is_no_tissue():
    """Beside three times as much air and a piece of bone, both at the ends of the window, muscle is 10 HU off."""
    intensity = HuWindow()
    hu = np.full((64, 64), -1000.0)
    hu[:32, :32], hu[40:, 40:] = 50.0, 900.0
    expected = 2 * penalty(10, 40.0, intensity)
    assert found(hu + 10 * (hu == 50), hu, intensity) == pytest.approx(expected, rel=0.01)


def test_images_of_a_batch_are_judged_apart():
    intensity = AsinhRange()
    hu = np.stack([np.full((32, 32), -800.0), np.full((32, 32), 50.0)])
    units = [torch.from_numpy(intensity.to_unit(one))[:, None] for one in (hu + np.array([[[10]], [[0]]]), hu)]
    lung, muscle = TissueBias(intensity)(*units).tolist()
    assert muscle < 1e-4 < lung


def test_it_is_added_to_the_objective_as_weighted():
    intensity = AsinhRange()
    made = objective(decoded_weight=1.0, tissue_weight=3.0, intensity=intensity)
    given = batch(made.denoiser)
    given = given._replace(high_res=given.high_res.clamp(-0.2, 0.2))
    losses = made(given)
    added = losses["decoded"] + losses["source"] + 3.0 * losses["tissue"]
    torch.testing.assert_close(losses["loss"], added, rtol=1e-5, atol=1e-6)
    assert float(losses["tissue"].detach()) > 0
    losses["tissue"].backward()
    gradients = [one.grad for one in made.denoiser.parameters() if one.grad is not None]
    assert sum(float(one.abs().sum()) for one in gradients) > 0


def test_without_hu_or_without_an_answer_it_is_refused():
    with pytest.raises(ConfigError, match="tissue_weight needs images in HU"):
        objective(decoded_weight=1.0, tissue_weight=1.0)
    with pytest.raises(ConfigError, match="agreement_weight and tissue_weight judge"):
        DenoiserTrainingConfig(downstream_weight=0.0, upstream_weight=0.0, source_weight=1.0, tissue_weight=1.0)
