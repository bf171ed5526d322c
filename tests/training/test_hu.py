"""HU with a gradient, and errors that are squared in HU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.intensity import AsinhRange, CompandedRange, HuWindow
from qdm_med.training.hu import DifferentiableHu
from tests.training.test_objective import batch, decode, objective

MAPS = [CompandedRange(), AsinhRange(), HuWindow()]


@pytest.mark.parametrize("intensity", MAPS, ids=lambda one: one.kind)
def test_hu_are_those_of_the_mapping(intensity):
    unit = np.linspace(-1.1, 1.1, 4001, dtype=np.float32)
    np.testing.assert_allclose(DifferentiableHu(intensity)(torch.from_numpy(unit)), intensity.to_hu(unit), atol=0.2)
    coarse = torch.from_numpy(unit).bfloat16()
    np.testing.assert_allclose(DifferentiableHu(intensity)(coarse), intensity.to_hu(coarse.float().numpy()), atol=0.2)


@pytest.mark.parametrize("intensity", MAPS[:2], ids=lambda one: one.kind)
def test_the_gradient_is_what_a_network_unit_is_worth(intensity):
    hu = np.array([-850.0, -90.0, 40.0, 700.0, 1500.0], np.float32)
    unit = torch.from_numpy(intensity.to_unit(hu)).requires_grad_()
    DifferentiableHu(intensity)(unit).sum().backward()
    expected = [intensity.hu_per_unit(float(one)) for one in hu]
    np.testing.assert_allclose(unit.grad, expected, rtol=0.02)


def test_errors_are_squared_in_thousands_of_hu():
    intensity = CompandedRange()
    made = objective(decoded_weight=1.0, hu_weight=3.0, intensity=intensity)
    given = batch(made.denoiser)
    given = given._replace(high_res=given.high_res.clamp(-1.0, 1.0))
    answers = []
    made.denoiser.register_forward_hook(lambda module, inputs, said: answers.append(decode(said.merged).detach()))
    losses = made(given)
    error = (intensity.to_hu(answers[0].numpy()) - intensity.to_hu(given.high_res.numpy())).astype(np.float64)
    assert float(losses["hu"].detach()) == pytest.approx(np.square(error / 1000).mean(), rel=1e-3)
    torch.testing.assert_close(losses["loss"], losses["decoded"] + losses["source"] + 3.0 * losses["hu"])


def test_what_is_as_likely_bone_as_muscle_is_the_mean_of_both_in_hu():
    """The best single answer to both, by descent: in the network's range it would be muscle."""
    intensity = CompandedRange()
    both = torch.from_numpy(intensity.to_unit(np.array([40.0, 800.0], np.float32)))
    hu = DifferentiableHu(intensity)
    answer = both.mean().clone().requires_grad_()
    assert float(hu(answer.detach())) < 200
    descent = torch.optim.Adam([answer], lr=0.01)
    for _ in range(400):
        descent.zero_grad()
        (hu(answer) - hu(both)).square().mean().backward()
        descent.step()
    assert float(hu(answer.detach())) == pytest.approx(420, abs=3)
