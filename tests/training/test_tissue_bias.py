"""Mean error of tissues as a loss, against the evaluation's own columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.agreement import tissue_means
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.intensity import AsinhRange, CompandedRange
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.tissue_bias import DENSER_THAN_AIR, TissueBias
from tests.training.test_objective import batch, objective


def images(hu, intensity):
    return torch.from_numpy(intensity.to_unit(np.asarray(hu, np.float32)))[None, None]


def penalty(bias):
    return abs(bias) + bias**2 / 0.01


def test_a_shift_of_one_tissue_counts_in_what_a_network_unit_is_worth_there():
    """One image of lung, one of muscle, each 10 HU off, of which all is interior but two pixels at the border."""
    intensity = AsinhRange()
    hu = np.stack([np.full((32, 32), -800.0), np.full((32, 32), 50.0)]).astype(np.float32)
    units = [torch.from_numpy(intensity.to_unit(one))[:, None] for one in (hu + 10, hu)]
    lung = penalty(10 / intensity.hu_per_unit(-725.0)) + penalty(10 / intensity.hu_per_unit(40.0))
    muscle = 2 * penalty(10 / intensity.hu_per_unit(40.0))
    np.testing.assert_allclose(TissueBias(intensity)(*units), [lung, muscle], rtol=0.01)


def test_interiors_are_the_evaluations():
    """Where nothing but the interior of one tissue is wrong, the loss is that of the evaluation's own mean."""
    rng = np.random.default_rng(4)
    intensity = CompandedRange()
    hu = np.where(np.add.outer(np.arange(96), np.arange(96)) % 60 < 30, 50.0, -850.0) + rng.normal(0, 5, (96, 96))
    soft = next(tissue for tissue in TISSUES if tissue.name == "soft_tissue")
    moved = np.where(soft.mask(hu), hu + rng.normal(6, 3, hu.shape), hu)
    found = float(TissueBias(intensity)(images(moved, intensity), images(hu, intensity)))
    measured, true = tissue_means(moved.astype(np.float32), hu.astype(np.float32), soft)
    body = (moved - hu)[DENSER_THAN_AIR.mask(hu)].mean() / intensity.hu_per_unit(40.0)
    # The evaluation's neighbourhood is a diamond, this one a square: nearly the same pixels.
    assert found == pytest.approx(penalty((measured - true) / intensity.hu_per_unit(40.0)) + penalty(body), rel=0.05)


def test_errors_without_a_mean_and_tissues_of_a_few_pixels_do_not_count():
    intensity = AsinhRange()
    hu = np.full((64, 64), -1000.0, np.float32)
    hu[:9, :9] = 900.0  # 25 interior pixels of bone, 81 in all: enough for the mean of what is denser than air alone
    bias = TissueBias(intensity)
    apart = float(bias(images(hu - 50 * (hu > 0), intensity), images(hu, intensity)))
    assert apart == pytest.approx(penalty(50 / intensity.hu_per_unit(40.0)), rel=0.01)
    checks = np.where(np.indices((64, 64)).sum(0) % 2 == 0, 20.0, -20.0)
    flat = np.full((64, 64), 40.0, np.float32)
    assert float(bias(images(flat + checks, intensity), images(flat, intensity))) < 1e-4


def test_it_is_added_to_the_objective_as_weighted():
    intensity = AsinhRange()
    made = objective(decoded_weight=1.0, tissue_weight=3.0, intensity=intensity)
    given = batch(made.denoiser)
    given = given._replace(high_res=given.high_res.clamp(-0.2, 0.2))
    losses = made(given)
    torch.testing.assert_close(
        losses["loss"], losses["decoded"] + losses["source"] + 3.0 * losses["tissue"], rtol=1e-5, atol=1e-6
    )
    assert float(losses["tissue"].detach()) > 0
    assert sum(float(one.grad.abs().sum()) for one in _gradients(made, losses["tissue"])) > 0


def _gradients(made, loss):
    loss.backward()
    return [one for one in made.denoiser.parameters() if one.grad is not None]


def test_without_hu_or_without_an_answer_it_is_refused():
    with pytest.raises(ConfigError, match="hu_weight and tissue_weight need images in HU"):
        objective(decoded_weight=1.0, tissue_weight=1.0)
    with pytest.raises(ConfigError, match="agreement_weight, hu_weight and tissue_weight judge"):
        DenoiserTrainingConfig(downstream_weight=0.0, upstream_weight=0.0, source_weight=1.0, tissue_weight=1.0)
