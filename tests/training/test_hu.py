"""HU with a gradient, against the mappings' own."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.intensity import AsinhRange, CompandedRange, HuWindow
from qdm_med.training.hu import DifferentiableHu

MAPS = [CompandedRange(), AsinhRange(), HuWindow()]


@pytest.mark.parametrize("intensity", MAPS, ids=lambda one: one.kind)
def test_hu_are_those_of_the_mapping(intensity):
    unit = np.linspace(-1.1, 1.1, 4001, dtype=np.float32)
    apart = 0.05 if isinstance(intensity, CompandedRange) else 0.002  # a knee between two knots is cut off
    hu = DifferentiableHu(intensity)
    np.testing.assert_allclose(hu(torch.from_numpy(unit)), intensity.to_hu(unit), rtol=1e-6, atol=apart)
    coarse = torch.from_numpy(unit).bfloat16()
    np.testing.assert_allclose(hu(coarse), intensity.to_hu(coarse.float().numpy()), rtol=1e-6, atol=apart)


@pytest.mark.parametrize("intensity", MAPS[:2], ids=lambda one: one.kind)
def test_the_gradient_is_what_a_network_unit_is_worth(intensity):
    hu = np.array([-850.0, -90.0, 40.0, 700.0, 1500.0], np.float32)
    unit = torch.from_numpy(intensity.to_unit(hu)).requires_grad_()
    DifferentiableHu(intensity)(unit).sum().backward()
    expected = [intensity.hu_per_unit(float(one)) for one in hu]
    np.testing.assert_allclose(unit.grad, expected, rtol=0.02)
