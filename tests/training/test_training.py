"""Training runs: they learn, they survive, and a resumed run is the run that was never stopped."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch

from qdm_med.checkpoints.file import read_tensors, weights_hash
from qdm_med.checkpoints.model import load_checkpoint, save_checkpoint
from qdm_med.cli import app
from qdm_med.data.store.slices import anonymous_key
from qdm_med.errors import ConfigError
from qdm_med.training.experiment import ExperimentConfig, load_config, save_config
from qdm_med.training.log import LOG_FILE
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import Start, run_denoiser, run_vae
from qdm_med.training.state import STATE_FILE
from qdm_med.training.vae import VaeTrainingConfig
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

LPIPS_BACKBONE = Path(__file__).parents[3] / "shared" / "data" / "lpips" / "squeezenet1_1_features_fp16.npz"

CONFIG = ExperimentConfig(
    name="tiny",
    loop=LoopConfig(
        steps=6, batch=2, learning_rate=3e-3, warmup=1, cosine=True, log_every=1, save_every=3, validate_every=6
    ),
    autoencoder=TINY_AUTOENCODER,
    vae=VaeTrainingConfig(crop=32, validation_slices=1),
    denoiser=TINY_DENOISER,
    training=DenoiserTrainingConfig(crops=(32, 64), crop_weights=(0.5, 0.5), decoded_weight=1.0, validation_slices=1),
)


TRAINED = sorted(anonymous_key(f"patient {number}") for number in range(3))
"""Patients of the store's train split."""


@pytest.fixture(scope="module")
def vae(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    run_vae(CONFIG, Start(store, folder, device="cpu", report=lambda line: None))
    return folder / CHECKPOINT_FILE


def train(config, store, vae, folder, *, resume=False):
    run_denoiser(config, Start(store, folder, device="cpu", resume=resume, report=lambda line: None), vae)


@pytest.fixture(scope="module")
def whole(store, vae, tmp_path_factory):
    """The run of ``CONFIG`` that nothing has stopped; only to be read."""
    folder = tmp_path_factory.mktemp("whole")
    train(CONFIG, store, vae, folder)
    return folder


def losses(folder):
    lines = [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]
    return [{name: line[name] for name in line.keys() - {"seconds", "cpu_minutes"}} for line in lines if "loss" in line]


def same_weights(first, second):
    ours, theirs = load_checkpoint(first), load_checkpoint(second)
    return ours.sha256 == theirs.sha256


class Killed(BaseException):
    """Not an Exception: nothing on the way may catch it, as nothing catches kill -9."""


def kill_at(monkeypatch, step):
    from qdm_med.training import loop

    original = loop.Trainer._train_step

    def dying(self, network):
        if self.step == step:
            raise Killed
        return original(self, network)

    monkeypatch.setattr(loop.Trainer, "_train_step", dying)


@pytest.mark.parametrize("killed_at", [2, 4, 5])
def test_a_killed_and_resumed_denoiser_run_ends_with_the_same_bytes(
    store, vae, whole, tmp_path, monkeypatch, killed_at
):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, killed_at)
        train(CONFIG, store, vae, tmp_path)
    train(CONFIG, store, vae, tmp_path, resume=True)
    assert same_weights(whole / CHECKPOINT_FILE, tmp_path / CHECKPOINT_FILE)
    logs = [[json.loads(line) for line in (run / LOG_FILE).read_text().splitlines()] for run in (whole, tmp_path)]
    for line in (*logs[0], *logs[1]):
        line.pop("seconds")
        line.pop("cpu_minutes")
    assert logs[0] == logs[1]


def test_a_killed_and_resumed_autoencoder_run_ends_with_the_same_bytes(store, vae, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 4)
        run_vae(CONFIG, Start(store, tmp_path, device="cpu", report=lambda line: None))
    run_vae(CONFIG, Start(store, tmp_path, device="cpu", resume=True, report=lambda line: None))
    assert same_weights(vae, tmp_path / CHECKPOINT_FILE)


def adversarial(start):
    game = VaeTrainingConfig(
        crop=32,
        perceptual_weight=0.1,
        perceptual="ssim",
        adversarial_weight=0.1,
        adversarial_start=start,
        discriminator_channels=4,
        discriminator_layers=2,
        validation_slices=1,
    )
    return replace(CONFIG, vae=game)


@pytest.mark.parametrize("start", [0, 2, 4])  # a state is saved after three steps: while, just after, before they play
def test_a_killed_and_resumed_adversarial_run_ends_with_the_same_bytes(store, tmp_path, monkeypatch, start):
    def run(folder, *, resume=False):
        run_vae(adversarial(start), Start(store, folder, device="cpu", resume=resume, report=lambda line: None))

    run(tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 5)
        run(tmp_path / "killed")
    run(tmp_path / "killed", resume=True)
    whole, killed = (read_tensors(tmp_path / name / STATE_FILE)[0] for name in ("whole", "killed"))
    for kept in ("objective.adversary.", "discriminator_optimiser."):
        assert any(name.startswith(kept) for name in whole)
    assert weights_hash(whole) == weights_hash(killed)
    assert same_weights(tmp_path / "whole" / CHECKPOINT_FILE, tmp_path / "killed" / CHECKPOINT_FILE)
    assert losses(tmp_path / "whole") == losses(tmp_path / "killed")
    played = [line["step"] - 1 for line in losses(tmp_path / "whole") if "discriminator" in line]
    assert played == list(range(start, 6))


def test_until_the_game_starts_the_autoencoder_is_trained_as_without_an_adversary(store, tmp_path):
    config = adversarial(start=6)
    alone = replace(config, vae=replace(config.vae, adversarial_weight=0.0))
    for folder, each in (("waiting", config), ("alone", alone)):
        run_vae(each, Start(store, tmp_path / folder, device="cpu", report=lambda line: None))
    assert same_weights(tmp_path / "waiting" / CHECKPOINT_FILE, tmp_path / "alone" / CHECKPOINT_FILE)
    assert losses(tmp_path / "waiting") == losses(tmp_path / "alone")
    assert not any("adversary" in name for name in read_tensors(tmp_path / "alone" / STATE_FILE)[0])


def test_the_shipped_autoencoder_comes_without_the_adversary(store, tmp_path):
    run_vae(adversarial(start=0), Start(store, tmp_path, device="cpu", report=lambda line: None))
    names = read_tensors(tmp_path / CHECKPOINT_FILE)[0]
    assert {name.split(".")[0] for name in names} == {"autoencoder"}
    assert load_checkpoint(tmp_path / CHECKPOINT_FILE).card.training["step"] == 6


@pytest.mark.shared
@pytest.mark.skipif(not LPIPS_BACKBONE.is_file(), reason="no LPIPS backbone beside the repository")
def test_the_command_line_trains_an_autoencoder_with_lpips_and_not_without_its_backbone(
    store, tmp_path, monkeypatch, capsys
):
    config = replace(CONFIG, vae=replace(CONFIG.vae, perceptual_weight=1.0), loop=replace(CONFIG.loop, steps=2))
    save_config(config, tmp_path / "config.yaml")
    command = [
        "qdm-med",
        "train-vae",
        "--data",
        str(store),
        "--config",
        str(tmp_path / "config.yaml"),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "without")])
    with pytest.raises(SystemExit):
        app.main()
    assert "--lpips-backbone" in capsys.readouterr().err
    assert not (tmp_path / "without").exists()
    backbone = ["--lpips-backbone", str(LPIPS_BACKBONE)]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "with"), *backbone])
    with pytest.raises(SystemExit, match="0"):
        app.main()
    assert all(line["perceptual"] > 0 for line in losses(tmp_path / "with"))
    names = read_tensors(tmp_path / "with" / STATE_FILE)[0]
    assert not any("lpips" in name for name in names)  # neither trained nor kept


def test_the_autoencoder_learns(store, tmp_path):
    config = replace(CONFIG, loop=replace(CONFIG.loop, steps=40, save_every=40, validate_every=40))
    run_vae(config, Start(store, tmp_path, device="cpu", report=lambda line: None))
    curve = [line["loss"] for line in losses(tmp_path)]
    assert np.mean(curve[-5:]) < 0.7 * np.mean(curve[:5])


def test_the_run_folder_says_what_was_run(vae, whole):
    assert load_config(whole / "config.yaml") == CONFIG
    card = load_checkpoint(whole / CHECKPOINT_FILE).card
    assert card.training["step"] == 6
    assert card.training["patients"] == 3
    assert card.training["patient_keys"] == load_checkpoint(vae).card.training["patient_keys"] == TRAINED
    assert set(card.training["validation"]) == {"psnr_x4", "bicubic_x4", "psnr_x8", "bicubic_x8"}
    assert card.autoencoder == CONFIG.autoencoder
    assert {path.name for path in whole.glob("*.png")} == {"curves.png", "samples.png"}
    assert {path.name for path in vae.parent.glob("*.png")} == {"curves.png"}  # an autoencoder shows no samples


def test_patients_that_the_autoencoder_saw_were_seen_by_the_model(store, vae, tmp_path):
    base = load_checkpoint(vae)
    card = replace(base.card, training={**base.card.training, "patient_keys": ["seen before"]})
    save_checkpoint(tmp_path / "vae.safetensors", card, base.autoencoder)
    train(CONFIG, store, tmp_path / "vae.safetensors", tmp_path / "run")
    known = load_checkpoint(tmp_path / "run" / CHECKPOINT_FILE).card.training["patient_keys"]
    assert known == sorted([*TRAINED, "seen before"])


def test_a_run_without_matplotlib_is_the_same_run_without_pictures(store, vae, whole, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    train(CONFIG, store, vae, tmp_path)
    assert not list(tmp_path.glob("*.png"))
    assert losses(tmp_path) == losses(whole)
    assert same_weights(tmp_path / CHECKPOINT_FILE, whole / CHECKPOINT_FILE)


def test_a_folder_that_holds_a_run_is_not_overwritten(store, vae, whole, tmp_path):
    out = copytree(whole, tmp_path / "run")
    before = (out / STATE_FILE).read_bytes()
    with pytest.raises(ConfigError, match="--resume"):
        train(CONFIG, store, vae, out)
    with pytest.raises(ConfigError, match="differs from the given configuration"):
        train(replace(CONFIG, name="other"), store, vae, out, resume=True)
    assert (out / STATE_FILE).read_bytes() == before


def test_an_autoencoder_of_another_shape_is_refused(store, vae, tmp_path):
    with pytest.raises(ConfigError, match="latent_channels is 5"):
        train(replace(CONFIG, denoiser=replace(CONFIG.denoiser, latent_channels=5)), store, vae, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_resumes_to_itself(store, vae, whole, tmp_path):
    out = copytree(whole, tmp_path / "run")
    before = (out / CHECKPOINT_FILE).read_bytes()
    train(CONFIG, store, vae, out, resume=True)
    assert (out / CHECKPOINT_FILE).read_bytes() == before


def test_configurations_survive_the_way_to_disk_and_back(tmp_path):
    save_config(CONFIG, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == CONFIG


WHOLE_BATCH = replace(CONFIG, loop=replace(CONFIG.loop, batch=8))  # two of the larger crop


def train_all_networks(config, store, vae, folder):
    train(config, store, vae, folder / "denoiser")
    run_vae(config, Start(store, folder / "vae", device="cpu", report=lambda line: None))
    played = replace(config, vae=adversarial(start=1).vae)
    run_vae(played, Start(store, folder / "adversarial", device="cpu", report=lambda line: None))


@pytest.fixture(scope="module")
def whole_batch(store, vae, tmp_path_factory):
    folder = tmp_path_factory.mktemp("batch")
    train_all_networks(WHOLE_BATCH, store, vae, folder)
    return folder


@pytest.mark.parametrize("parts", [2, 4])
def test_a_batch_in_parts_trains_as_the_whole_batch_does(store, vae, whole_batch, tmp_path, parts):
    config = replace(WHOLE_BATCH, loop=replace(WHOLE_BATCH.loop, accumulate=parts))
    train_all_networks(config, store, vae, tmp_path)
    for network in ("denoiser", "vae", "adversarial"):
        for line, other in zip(losses(whole_batch / network), losses(tmp_path / network), strict=True):
            assert line == pytest.approx(other, abs=1e-6, rel=1e-5)  # norms of gradients lie above 1


def test_bfloat16_trains_nearly_alike_with_weights_in_float32(store, vae, whole, tmp_path):
    train(replace(CONFIG, loop=replace(CONFIG.loop, precision="bfloat16")), store, vae, tmp_path)
    exact, rounded = losses(whole), losses(tmp_path)
    assert exact != rounded
    for line, other in zip(exact, rounded, strict=True):
        assert line == pytest.approx(other, rel=0.02)
    state, _ = read_tensors(tmp_path / STATE_FILE)
    assert {tensor.dtype for tensor in state.values() if tensor.is_floating_point()} == {torch.float32}
