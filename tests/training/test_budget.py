"""Runs that end by processor time, and the paper's own settings of loop and autoencoder."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import count

import pytest
import torch

from qdm_med.checkpoints.model import load_checkpoint
from qdm_med.training import loop
from qdm_med.training.log import LOG_FILE
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.runs import Start, run_vae
from qdm_med.training.vae import VaeTrainingConfig
from tests.shapes import TINY_AUTOENCODER
from tests.training.test_training import CONFIG, losses

SHORT = replace(CONFIG, loop=replace(CONFIG.loop, steps=5))


def train(config, store, folder, *, resume=False):
    told = []
    run_vae(config, Start(store, folder, device="cpu", resume=resume, report=told.append))
    return told


@pytest.fixture
def slow_clock(monkeypatch):
    """Every step takes a processor 0.6 s."""
    ticks = count()
    monkeypatch.setattr(loop.time, "process_time", lambda: 0.6 * next(ticks))


def test_a_run_ends_when_its_processor_time_is_up_and_its_steps_are_those_of_a_run_without(store, tmp_path, slow_clock):
    train(SHORT, store, tmp_path / "free")
    limited = replace(SHORT, loop=replace(SHORT.loop, cpu_minutes=0.02))  # 1.2 s: two steps
    told = train(limited, store, tmp_path / "limited")
    assert "2 steps in" in told[-1]
    assert "0.0 CPU min" in told[-1]
    assert losses(tmp_path / "limited") == losses(tmp_path / "free")[:2]
    training = load_checkpoint(tmp_path / "limited" / CHECKPOINT_FILE).card.training
    assert (training["step"], training["cpu_minutes"]) == (2, 0.02)
    lines = [json.loads(line) for line in (tmp_path / "limited" / LOG_FILE).read_text().splitlines()]
    assert [line["cpu_minutes"] for line in lines if "loss" in line] == [0.01, 0.02]
    assert lines[-1]["validation"]["psnr"] > 0


def test_time_that_was_spent_before_a_kill_counts(store, tmp_path, slow_clock):
    limited = replace(SHORT, loop=replace(SHORT.loop, cpu_minutes=0.02))
    train(limited, store, tmp_path)
    before = (tmp_path / CHECKPOINT_FILE).read_bytes()
    assert "nothing to do" in train(limited, store, tmp_path, resume=True)[-1]
    assert (tmp_path / CHECKPOINT_FILE).read_bytes() == before


def test_without_clipping_a_step_is_adams_on_the_plain_gradient(store, tmp_path):
    clipped = replace(SHORT, loop=replace(SHORT.loop, steps=2, clip=1e-6))
    plain = replace(SHORT, loop=replace(SHORT.loop, steps=2, clip=0.0))
    never = replace(SHORT, loop=replace(SHORT.loop, steps=2, clip=1e9))
    for name, config in (("clipped", clipped), ("plain", plain), ("never", never)):
        train(config, store, tmp_path / name)
    weights = {
        name: load_checkpoint(tmp_path / name / CHECKPOINT_FILE).sha256 for name in ("clipped", "plain", "never")
    }
    assert weights["plain"] == weights["never"] != weights["clipped"]


def test_an_autoencoder_of_three_channels_learns_grey_and_takes_the_papers_factor(store, tmp_path):
    shape = replace(TINY_AUTOENCODER, image_channels=3)
    game = VaeTrainingConfig(
        crop=32,
        perceptual_weight=0.1,
        perceptual="ssim",
        adversarial_weight=0.1,
        discriminator_channels=4,
        discriminator_layers=2,
        validation_slices=1,
        latent_scale=0.1,
    )
    train(replace(SHORT, autoencoder=shape, vae=game), store, tmp_path)
    said = [line["loss"] for line in losses(tmp_path)]
    assert said[-1] < said[0]
    autoencoder = load_checkpoint(tmp_path / CHECKPOINT_FILE).autoencoder
    assert autoencoder.latent_scale.tolist() == pytest.approx([0.1, 0.1])
    assert not autoencoder.latent_mean.any()
    assert autoencoder.decode(torch.zeros(1, 2, 4, 4)).shape == (1, 1, 16, 16)


def test_mixed_precision_is_float32_where_there_is_no_cuda(store, tmp_path):
    for name in ("float32", "mixed"):
        train(replace(SHORT, loop=replace(SHORT.loop, precision=name)), store, tmp_path / name)
    assert losses(tmp_path / "mixed") == losses(tmp_path / "float32")
    assert LoopConfig().precision == "float32"
