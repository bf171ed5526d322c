"""``qdm-med train --model rrdb``: from a store to weights that ``info`` and ``eval`` know, and wrong use of it."""

from __future__ import annotations

import json

import pytest
import torch

from qdm_med.checkpoints.model import ModelCard, save_checkpoint
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.image_network import ImageNetworkConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.training.experiment import ExperimentConfig, save_config
from qdm_med.training.image import ImageTrainingConfig
from qdm_med.training.loop import LoopConfig
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

pytest.importorskip("spandrel", reason="spandrel is an extra")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store of three slices of as many patients, of which one is in both splits, and an experiment."""
    folder = tmp_path_factory.mktemp("place")
    splits = enumerate((("train", "a"), ("val", "a"), ("val", "b")))
    write_store(folder / "store", ((blocky(number), split, patient) for number, (split, patient) in splits))
    config = ExperimentConfig(
        name="tiny-rrdb",
        loop=LoopConfig(steps=2, batch=1, warmup=1),
        image_network=ImageNetworkConfig(features=4, blocks=1),
        image_training=ImageTrainingConfig(crops=(32,), validation_slices=1),
        scales=(4,),
        steps=(1,),
    )
    save_config(config, folder / "config.yaml")
    return folder


def test_a_network_is_trained_described_and_compared(run, place, tmp_path):
    given = ("--data", place / "store", "--config", place / "config.yaml")
    code, told, err = run("train", "--model", "rrdb", *given, "--out", tmp_path / "run", "--device", "cpu")
    assert (code, err) == (0, "")
    assert "trained tiny-rrdb: 2 steps" in told
    weights = tmp_path / "run" / "checkpoint.safetensors"
    code, told, _ = run("info", weights, "--json")
    assert code == 0
    described = json.loads(told)
    assert (described["kind"], described["name"], described["scale"]) == ("image network", "tiny-rrdb", 4)

    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    card = ModelCard("tiny", autoencoder, denoiser, scales=(4,), steps=(1,), training={"patient_keys": []})
    save_checkpoint(tmp_path / "tiny.safetensors", card, KlVae(autoencoder), TwoStreamDenoiser(denoiser))
    tested = ("--data", place / "store", "--checkpoint", tmp_path / "tiny.safetensors", "--methods", "bicubic")
    code, told, err = run("eval", "--benchmark", "med-sr4", *tested, "--image-model", weights)
    assert code == 0
    assert err.startswith("no LPIPS column")
    assert "1 slices of 1 patients (1 slices of patients of the training left out)" in told
    assert "| tiny-rrdb |" in told


def test_what_a_model_needs_and_does_not_need_is_wrong_usage(run, place, tmp_path):
    given = ("--data", place / "store", "--config", place / "config.yaml", "--out", tmp_path / "run")
    for model in ((), ("--model", "qdm"), ("--model", "resshift"), ("--model", "ldm")):
        code, out, err = run("train", *model, *given)
        assert (code, out) == (2, "")
        assert "give --vae" in err
    for option in ("--vae", "--init"):
        code, out, err = run("train", "--model", "rrdb", *given, option, "v.safetensors")
        assert (code, out) == (2, "")
        assert "works without an autoencoder" in err
    assert run("train", "--model", "edsr", *given)[0] == 2
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--model", "swinir"), "describes rrdb, not swinir"),
        (("--vae", "v.safetensors"), "has no denoiser"),
        (("--model", "ldm", "--vae", "v.safetensors"), "has no unet, which --model ldm trains"),
    ],
)
def test_an_experiment_of_another_model_is_refused_in_one_line(run, place, tmp_path, options, said):
    given = ("--data", place / "store", "--config", place / "config.yaml", "--out", tmp_path / "run")
    code, out, err = run("train", *options, *given)
    assert (code, out) == (1, "")
    assert said in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()
