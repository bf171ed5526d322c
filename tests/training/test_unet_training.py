"""``train --model resshift`` and ``ldm``: the same trainer, another network, another chain."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.diffusion.ddpm import DdpmConfig
from qdm_med.errors import ConfigError
from qdm_med.evaluation.methods.qdm import qdm
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.unet import LatentUnetConfig
from qdm_med.training.experiment import ExperimentConfig, load_config, save_config
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import Start, run_denoiser
from qdm_med.volume import CtSlice
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

AUTOENCODER = TINY_AUTOENCODER
RESSHIFT = ExperimentConfig(
    name="resshift",
    loop=LoopConfig(steps=4, batch=2, learning_rate=3e-3, warmup=1, save_every=2, validate_every=4),
    unet=LatentUnetConfig(2, channels=(8, 8), res_blocks=(1, 1), attention=(False, True), head_channels=8),
    training=DenoiserTrainingConfig(
        crops=(32,), thresholds=(0.0,), upstream_weight=0.0, decoded_weight=1.0, validation_slices=1
    ),
    threshold=0.0,
    steps=(2, 2),
)
DOWNSTREAM = replace(
    RESSHIFT,
    name="downstream",
    unet=None,
    denoiser=replace(TINY_DENOISER, upstream=False, noise_everywhere=True),
)
LDM = replace(RESSHIFT, name="ldm", schedule=DdpmConfig(steps=100))
CONFIGS = {"resshift": RESSHIFT, "ldm": LDM}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    slices = ((blocky(number), split, split) for number, split in enumerate(("train", "val")))
    return write_store(tmp_path_factory.mktemp("data") / "store", slices)


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vae") / "vae.safetensors"
    save_checkpoint(path, ModelCard("vae", AUTOENCODER), KlVae(AUTOENCODER))
    return path


@pytest.fixture
def train(store, vae, tmp_path):
    def train(config, name="run", *, model=None, resume=False, initial=None):
        run_denoiser(
            config,
            Start(store, tmp_path / name, device="cpu", resume=resume, report=str),
            vae,
            initial=initial,
            model=model or config.name,
        )
        return tmp_path / name / CHECKPOINT_FILE

    return train


@pytest.fixture(scope="module")
def whole(store, vae, tmp_path_factory):
    """Checkpoints of runs that nothing has stopped, by model; only to be read."""

    @functools.cache
    def whole(model):
        folder = tmp_path_factory.mktemp(model)
        run_denoiser(CONFIGS[model], Start(store, folder, device="cpu", report=str), vae, model=model)
        return folder / CHECKPOINT_FILE

    return whole


@pytest.mark.parametrize("model", ["resshift", "ldm"])
def test_it_trains_and_its_checkpoint_is_run_like_any_other(whole, vae, model):
    trained = load_checkpoint(whole(model))
    assert trained.card.schedule == CONFIGS[model].schedule
    assert trained.card.training["patient_keys"] == ["train"]
    assert trained.shares_autoencoder(load_checkpoint(vae))
    assert {"psnr_x4", "bicubic_x4"} <= trained.card.training["validation"].keys()
    assert any(parameter.any() for parameter in trained.denoiser.unet.out[-1].parameters())
    hu = np.zeros((16, 16), np.float32)
    result = Upscaler(trained, UpscaleOptions(), device=torch.device("cpu")).upscale_slice(
        CtSlice(hu, hu > 0, 0.0), "series"
    )
    assert result.hu.shape == (64, 64)


@pytest.mark.parametrize("model", ["resshift", "ldm"])
def test_a_run_that_was_stopped_ends_with_the_same_bytes(train, whole, monkeypatch, model):
    from qdm_med.training import loop

    original = loop.Trainer._train_step

    def dying(self, network):
        if self.step == 3:
            raise KeyboardInterrupt
        return original(self, network)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Trainer, "_train_step", dying)
        train(CONFIGS[model], "stopped")
    assert load_checkpoint(train(CONFIGS[model], "stopped", resume=True)).sha256 == load_checkpoint(whole(model)).sha256


def test_a_run_starts_from_a_network_of_its_shape_only(train, whole):
    first = whole("resshift")
    again = train(replace(RESSHIFT, loop=replace(RESSHIFT.loop, learning_rate=1e-9)), "again", initial=first)
    ours, theirs = (load_checkpoint(path).denoiser.state_dict() for path in (again, first))
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-6, rtol=0)
    other = replace(RESSHIFT, unet=replace(RESSHIFT.unet, channels=(8, 16)))
    with pytest.raises(ConfigError, match="has no denoiser of the configured shape; start without --init"):
        train(other, "other", initial=first)


def test_the_configuration_survives_the_run_folder(tmp_path):
    for config in CONFIGS.values():
        save_config(config, tmp_path / "config.yaml")
        assert load_config(tmp_path / "config.yaml") == config


def test_the_downstream_alone_is_trained_run_and_named_without_a_threshold(train, tmp_path):
    train(DOWNSTREAM, model="qdm")
    checkpoint = load_checkpoint(tmp_path / "run" / CHECKPOINT_FILE)
    assert not checkpoint.card.denoiser.upstream
    method = qdm(checkpoint, UpscaleOptions(scale=4), torch.device("cpu"))
    assert method.name == "downstream, 2 steps"
    assert method.restore(np.zeros((16, 16), dtype=np.float32), 4).leaves.all()


@pytest.mark.parametrize(
    ("config", "model", "said"),
    [
        (replace(RESSHIFT, unet=None), "resshift", r"has no unet, .* such as configs/resshift_t.yaml"),
        (RESSHIFT, "qdm", r"has no denoiser, .* such as configs/qdm_t.yaml"),
        (RESSHIFT, "ldm", "needs a schedule with kind: ddpm"),
        (LDM, "resshift", "needs a schedule with no kind"),
        (RESSHIFT, "rrdb", "'rrdb' is not trained on latents; known: qdm, resshift, ldm"),
        (replace(LDM, threshold=0.15), "ldm", "threshold of .* must be 0.*: its network has no mask"),
        (replace(DOWNSTREAM, training=DenoiserTrainingConfig()), "qdm", r"set training.thresholds to \[0.0\]"),
        (replace(DOWNSTREAM, threshold=0.15), "qdm", "its network has no mask"),
        (replace(RESSHIFT, training=DenoiserTrainingConfig()), "resshift", r"set training.thresholds to \[0.0\]"),
        (replace(RESSHIFT, unet=replace(RESSHIFT.unet, latent_channels=3)), "resshift", "latent_channels is 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_and_leaves_nothing(train, tmp_path, config, model, said):
    with pytest.raises(ConfigError, match=said):
        train(config, model=model)
    assert not (tmp_path / "run").exists()
