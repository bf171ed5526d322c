"""Terms of the objective that the clinical configurations use, against sums written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig
from qdm_med.models.conditioning import Conditioning
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.training.objective import DenoiserBatch, DenoiserObjective, DenoiserTrainingConfig
from tests.shapes import TINY_DENOISER

SCHEDULE = ResidualShiftSchedule.from_config(ScheduleConfig())
SHAPE = replace(TINY_DENOISER, latent_channels=16)


def decode(latent):
    return torch.pixel_shuffle(latent, 4)


def batch(denoiser, cold=(False, False)):
    torch.manual_seed(3)
    leaves = torch.ones(2, 8, 8, dtype=torch.bool)
    z_y = torch.randn(2, 16, 16, 16)
    known = Conditioning(torch.randn(2, 1, 16, 16), z_y, leaves, torch.ones(2, 1, 16, 16).bool(), denoiser.plan(leaves))
    z_0 = z_y + torch.tensor([0.1, 3.0])[:, None, None, None] * torch.randn(2, 16, 16, 16)
    return DenoiserBatch(decode(z_0), z_0, known, torch.tensor([3, 9]), torch.randn(2, 16, 16, 16), torch.tensor(cold))


def objective(**weights):
    torch.manual_seed(0)
    config = DenoiserTrainingConfig(downstream_weight=0, upstream_weight=0, source_weight=1.0, **weights)
    return DenoiserObjective(TwoStreamDenoiser(SHAPE), SCHEDULE, config, decode)


def test_an_untrained_network_has_the_relative_error_of_bicubic_which_is_one_for_every_image():
    """It answers ``z_y``: both errors, divided by bicubic's own and a small floor, are nearly 1, however large they are."""
    made = objective(l1_weight=0.5, relative_floor=1e-3)
    assert float(made(batch(made.denoiser))["source"].detach()) == pytest.approx(1.5, abs=0.02)


def test_absolute_and_squared_errors_add_up_as_weighted():
    made = objective(l1_weight=0.5)
    given = batch(made.denoiser)
    difference = given.high_res - decode(given.known.z_y)
    expected = (difference**2).mean() + 0.5 * difference.abs().mean()
    torch.testing.assert_close(made(given)["source"], expected)


def test_cold_items_are_shown_the_start_of_a_chain_without_noise():
    made = objective()
    made = DenoiserObjective(made.denoiser, SCHEDULE, DenoiserTrainingConfig(decoded_weight=1.0), decode)
    shown = []
    made.denoiser.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[:2]))
    given = batch(made.denoiser, cold=(True, False))
    made(given)
    x_t, t = shown[0]
    assert t.tolist() == [14, 9]
    torch.testing.assert_close(x_t[0], given.known.z_y[0] / float(SCHEDULE.input_std[-1]))
    assert (x_t[1] - given.known.z_y[1] / float(SCHEDULE.input_std[9])).abs().max() > 0.5
