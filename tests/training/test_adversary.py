"""Two players in one step: each with the gradient and the loss of its own, and neither before its time."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import ssim
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.training.adversary import PatchAdversary
from qdm_med.training.vae import VaeBatch, VaeObjective, VaeTrainingConfig, structural_distance
from tests.shapes import TINY_AUTOENCODER

CONFIG = VaeTrainingConfig(crop=32, adversarial_weight=0.5, discriminator_channels=4, discriminator_layers=2)


def images(count=3, side=32, seed=0):
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture
def adversary():
    torch.manual_seed(0)
    return PatchAdversary(1, 4, 2)


@pytest.fixture
def objective(adversary):
    autoencoder = KlVae(TINY_AUTOENCODER)
    return VaeObjective(autoencoder, CONFIG, adversary)


def batch(*, adversarial=True):
    return VaeBatch(images(), torch.randn(3, 2, 8, 8, generator=torch.Generator().manual_seed(1)), adversarial)


def gradients(network):
    return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}


def test_each_loss_moves_its_own_player_alone(objective):
    losses = objective(batch())
    losses["loss"].backward(retain_graph=True)
    assert not gradients(objective.adversary)
    assert gradients(objective.autoencoder)
    objective.zero_grad(set_to_none=True)
    losses["discriminator"].backward()
    assert not gradients(objective.autoencoder)
    assert len(gradients(objective.adversary)) == len(list(objective.adversary.parameters()))


def test_one_backward_gives_both_players_the_gradients_of_taking_turns(objective):
    """The oracle: least squares written out, the autoencoder first, then the discriminator on the same images."""
    autoencoder, judge = objective.autoencoder, objective.adversary.discriminator
    losses = objective(batch())
    (losses["loss"] + losses["discriminator"]).backward()
    ours = gradients(objective)
    objective.zero_grad(set_to_none=True)

    image, noise, _ = batch()
    mean, std = autoencoder.posterior(image)
    made = autoencoder.decode_posterior(mean + std * noise)
    kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum() / image.numel()
    terms = CONFIG.l1_weight * F.l1_loss(made, image) + CONFIG.mse_weight * F.mse_loss(made, image)
    (terms + CONFIG.kl_weight * kl + 0.5 * ((judge(made)[-1] - 1) ** 2).mean()).backward()
    judge.zero_grad(set_to_none=True)  # not its turn
    (0.5 * ((judge(image)[-1] - 1) ** 2).mean() + 0.5 * (judge(made.detach())[-1] ** 2).mean()).backward()
    theirs = gradients(objective)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name], atol=1e-6, rtol=1e-4, msg=name)


def test_the_losses_of_a_batch_are_the_means_of_its_images(adversary):
    real, made = images(), images(seed=1)
    for whole, parts in (
        (adversary.told_apart(real, made), [adversary.told_apart(real[i : i + 1], made[i : i + 1]) for i in range(3)]),
        (adversary.deceived(made), [adversary.deceived(made[i : i + 1]) for i in range(3)]),
    ):
        torch.testing.assert_close(whole, torch.stack(parts).mean(), atol=1e-6, rtol=1e-5)


def test_the_discriminator_learns_to_tell_blurred_from_sharp_and_then_sharpness_deceives_it(adversary):
    optimiser = torch.optim.Adam(adversary.parameters(), lr=1e-2)
    before = adversary.told_apart(images(), F.avg_pool2d(images(), 3, 1, 1)).item()
    for step in range(40):
        real, made = images(seed=2 * step), F.avg_pool2d(images(seed=2 * step + 1), 3, 1, 1)
        optimiser.zero_grad()
        adversary.told_apart(real, made).backward()
        optimiser.step()
    sharp = images(seed=99)
    blurred = F.avg_pool2d(sharp, 3, 1, 1)
    assert adversary.told_apart(sharp, blurred).item() < 0.2 * before
    assert adversary.deceived(sharp).item() < 0.2 * adversary.deceived(blurred).item()


def test_before_its_time_the_discriminator_does_not_play(objective):
    losses = objective(batch(adversarial=False))
    assert losses.keys() == {"loss", "l1", "mse", "kl"}
    losses["loss"].backward()
    assert not gradients(objective.adversary)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_the_smallest_side_is_the_smallest_that_can_be_judged(layers):
    adversary, side = PatchAdversary(1, 2, layers), PatchAdversary.smallest_side(layers)
    assert adversary.deceived(images(side=side)).isfinite()
    with pytest.raises((ValueError, RuntimeError)):
        adversary.deceived(images(side=side - 2))
    with pytest.raises(ConfigError, match=f"too small for a discriminator of {layers} layers"):
        replace(CONFIG, crop=side - 1, discriminator_layers=layers)


@pytest.mark.parametrize(
    "wrong",
    [
        {"adversarial_weight": -1.0},
        {"perceptual_weight": -1.0},
        {"adversarial_start": -1},
        {"discriminator_channels": 0},
        {"discriminator_layers": 0},
    ],
)
def test_a_contradictory_configuration_names_the_field(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(CONFIG, **wrong)


def test_the_perceptual_term_is_the_distance_of_image_and_decoded_in_its_weight(objective):
    config = replace(CONFIG, perceptual_weight=3.0)
    asked = []

    def distance(first, second):
        asked.append((first, second))
        return (first - second).abs().flatten(1).amax(dim=1)

    without = objective(batch(adversarial=False))
    having = VaeObjective(objective.autoencoder, config, None, distance)(batch(adversarial=False))
    ((made, image),) = asked
    assert torch.equal(image, images())
    torch.testing.assert_close(having["perceptual"], (made - image).abs().flatten(1).amax(dim=1).mean())
    torch.testing.assert_close(having["loss"], without["loss"] + 3.0 * having["perceptual"])
    with pytest.raises(ConfigError, match="--lpips-backbone"):
        VaeObjective(objective.autoencoder, config)


def test_the_substitute_without_weights_falls_towards_the_image():
    image = images()
    made = F.avg_pool2d(image, 3, 1, 1).requires_grad_()
    before = structural_distance(made, image)
    torch.testing.assert_close(before, 1 - ssim(made, image), atol=1e-9, rtol=1e-9)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(structural_distance(made, image), before)
    (gradient,) = torch.autograd.grad(before.sum(), made)
    after = structural_distance(made - 0.1 * gradient / gradient.abs().max(), image)
    assert (after < before).all()
