"""Terms of the objective that the clinical configurations use, against sums written out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig
from qdm_med.errors import ConfigError
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


def objective(intensity=None, **weights):
    torch.manual_seed(0)
    config = DenoiserTrainingConfig(downstream_weight=0, upstream_weight=0, source_weight=1.0, **weights)
    return DenoiserObjective(TwoStreamDenoiser(SHAPE), SCHEDULE, config, decode, intensity=intensity)


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


def test_own_items_are_mixed_from_the_networks_answer_at_the_last_timestep():
    """An untrained network answers ``z_y`` plus what its zero layers say: nothing. The mixture then holds no truth."""
    made = objective()
    made = DenoiserObjective(made.denoiser, SCHEDULE, DenoiserTrainingConfig(decoded_weight=1.0), decode)
    shown = []
    made.denoiser.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[:2]))
    answers = []
    made.denoiser.register_forward_hook(lambda module, inputs, said: answers.append(said.merged.detach()))
    given = batch(made.denoiser)._replace(cold=None, own=torch.tensor([True, False]))
    made(given)
    (_, first), (x_t, t) = shown
    assert first.tolist() == [14, 14]
    assert t.tolist() == [3, 9]
    for item, clean in enumerate((answers[0][0], given.z_0[1])):
        share, noisy = SCHEDULE.eta[t[item]], SCHEDULE.noise_std[t[item]] * given.noise[item]
        mixed = clean + share * (given.known.z_y[item] - clean) + noisy
        torch.testing.assert_close(x_t[item] * SCHEDULE.input_std[t[item]], mixed.float(), atol=1e-5, rtol=1e-4)


def test_the_noise_of_the_own_answer_is_not_that_of_the_mixture():
    made = objective()
    made = DenoiserObjective(made.denoiser, SCHEDULE, DenoiserTrainingConfig(decoded_weight=1.0), decode)
    shown = []
    made.denoiser.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    given = batch(made.denoiser)._replace(cold=None, own=torch.tensor([True, True]))
    made(given)
    noise = (shown[0] * SCHEDULE.input_std[14] - given.known.z_y) / SCHEDULE.noise_std[14]
    assert noise.std() == pytest.approx(1.0, abs=0.05)
    assert abs(torch.corrcoef(torch.stack([noise.flatten(), given.noise.flatten()]))[0, 1]) < 0.05


def distance(image, reference):
    return (image - reference).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize("relative", [False, True])
def test_relative_perceptual_distance_counts_images_alike_whatever_their_errors_are(relative):
    """An untrained network answers as bicubic does; the second image's error is thirty times the first's."""
    made = objective()
    config = DenoiserTrainingConfig(perceptual_weight=1.0, perceptual_relative=relative)
    made = DenoiserObjective(made.denoiser, SCHEDULE, config, decode, distance)
    given = batch(made.denoiser)
    errors = distance(decode(given.known.z_y), given.high_res)
    expected = (errors / (errors + 0.01)).mean() if relative else errors.mean()
    torch.testing.assert_close(made(given)["perceptual"], expected)
    assert errors.max() > 100 * errors.min()
    assert (float(expected) < 1) == relative


def agreeing(**weights):
    """An objective whose network answers differently where leaves are active, and a batch with half of them."""
    torch.manual_seed(0)
    config = DenoiserTrainingConfig(downstream_weight=0, upstream_weight=0, decoded_weight=1.0, **weights)
    network = TwoStreamDenoiser(replace(SHAPE, noise_everywhere=True))
    made = DenoiserObjective(network, SCHEDULE, config, decode)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    dense = batch(network)
    leaves = dense.known.leaves.clone()
    leaves[:, :4] = False
    return made, dense, dense._replace(known=replace(dense.known, leaves=leaves, plan=network.plan(leaves)))


def test_the_answers_of_active_and_of_all_leaves_are_drawn_together():
    made, _, sparse = agreeing(agreement_weight=2.0)
    answers = []
    made.denoiser.register_forward_hook(lambda module, inputs, said: answers.append(said.merged))
    losses = made(sparse)
    torch.testing.assert_close(losses["agreement"], (decode(answers[0]) - decode(answers[1])).square().mean())
    torch.testing.assert_close(losses["loss"], losses["decoded"] + 2.0 * losses["agreement"])
    first, second = torch.autograd.grad(losses["agreement"], answers)
    torch.testing.assert_close(first, -second)
    assert first.abs().sum() > 0


def test_where_all_leaves_are_active_they_agree_and_nothing_is_computed_twice():
    made, dense, _ = agreeing(agreement_weight=2.0)
    asked = []
    made.denoiser.register_forward_hook(lambda *_: asked.append(1))
    assert float(made(dense)["agreement"].detach()) == 0.0
    assert len(asked) == 1


def test_agreement_is_relative_to_the_error_of_bicubic_where_errors_are():
    made, _, sparse = agreeing(agreement_weight=2.0, relative_floor=0.1)
    answers = []
    made.denoiser.register_forward_hook(lambda module, inputs, said: answers.append(decode(said.merged)))
    found = made(sparse)["agreement"]
    apart = (answers[0] - answers[1]).square().mean(dim=(1, 2, 3))
    bicubic = (decode(sparse.known.z_y) - sparse.high_res).square().mean(dim=(1, 2, 3))
    torch.testing.assert_close(found, (apart / (bicubic + 0.1**2)).mean())


def test_agreement_needs_the_same_noise_in_both_answers():
    config = DenoiserTrainingConfig(agreement_weight=1.0)
    with pytest.raises(ConfigError, match="agreement_weight needs noise_everywhere"):
        DenoiserObjective(TwoStreamDenoiser(SHAPE), SCHEDULE, config, decode)
