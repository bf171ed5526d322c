import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from qdm_med.resample import bicubic, lanczos

LOW_RES = torch.rand(1, 1, 13, 17, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.6


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_lanczos_is_that_of_pillow(scale):
    pillow = Image.fromarray(LOW_RES[0, 0].numpy()).resize((17 * scale, 13 * scale), Image.Resampling.LANCZOS)
    np.testing.assert_allclose(lanczos(LOW_RES, scale)[0, 0].numpy(), np.asarray(pillow), atol=1e-5)


@pytest.mark.parametrize("method", [bicubic, lanczos])
@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_edges_stay_in_place_and_a_ramp_stays_a_ramp(method, scale):
    fine = torch.linspace(-0.5, 0.5, 24 * scale).expand(1, 1, 24 * scale, 24 * scale)
    for reference in (fine, fine.transpose(-1, -2)):
        enlarged = method(F.avg_pool2d(reference, scale), scale)
        inner = (..., slice(4 * scale, -4 * scale), slice(4 * scale, -4 * scale))
        torch.testing.assert_close(enlarged[inner], reference[inner], rtol=0, atol=2e-3)


@pytest.mark.parametrize("method", [bicubic, lanczos])
def test_overshoot_is_clamped(method):
    step = torch.ones(1, 1, 8, 8)
    step[..., :4] = -1
    assert float(method(step, 4).abs().max()) == 1.0
