"""The configurations of the paper's size say what the paper says, and their networks take a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.models.qdm.config import PRESETS
from qdm_med.natural.experiment import load_experiment
from qdm_med.natural.vqgan_training import VqganBatch, VqganObjective
from qdm_med.training.adversary import PatchAdversary

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


@pytest.mark.parametrize("preset", ["s", "b", "l"])
def test_both_stages_are_those_of_the_paper(preset):
    first, second = (load_experiment(CONFIGS / f"natural_{preset}_x4{stage}.yaml") for stage in ("", "_perceptual"))
    assert (first.loop.steps, second.loop.steps) == (150_000, 50_000)
    for one, perceptual in ((first, 0.0), (second, 0.1)):
        assert (one.loop.batch, one.loop.learning_rate, one.loop.ema) == (64, 5e-5, 0.999)
        assert one.denoiser == PRESETS[preset]
        assert (one.training.downstream_weight, one.training.upstream_weight) == (1.0, 1.0)
        assert one.training.perceptual_weight == perceptual
        assert one.training.thresholds == (one.threshold,) == (0.0,)
        assert (one.scale, one.steps, one.training.crop) == (4, 15, 512)
    assert replace(first, name="", loop=second.loop, training=second.training) == replace(second, name="")


def test_the_tiny_stages_fit_each_other():
    first, second = (load_experiment(CONFIGS / f"natural_t_x4{stage}.yaml") for stage in ("", "_perceptual"))
    assert first.denoiser == second.denoiser
    assert first.denoiser.latent_channels == load_experiment(CONFIGS / "vqgan_t.yaml").autoencoder.latent_channels


def test_the_vqgan_of_the_released_size_and_its_discriminator_take_a_step():
    experiment = load_experiment(CONFIGS / "vqgan_f4.yaml")
    assert experiment.autoencoder == VqConfig()
    assert experiment.vqgan.adversarial_start < experiment.loop.steps
    assert (experiment.vqgan.adversarial_adaptive, experiment.vqgan.adversarial_weight) == (True, 1.0)
    torch.manual_seed(0)
    adversary = PatchAdversary(3, experiment.vqgan.discriminator_channels, experiment.vqgan.discriminator_layers)
    objective = VqganObjective(
        VqAutoencoder(experiment.autoencoder),
        experiment.vqgan,
        adversary,
        lambda made, truth: (made - truth).abs().flatten(1).mean(dim=1),
    )
    losses = objective(VqganBatch(torch.rand(1, 3, 32, 32) * 2 - 1, adversarial=True))
    (losses["loss"] + losses["discriminator"]).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in objective.parameters())
