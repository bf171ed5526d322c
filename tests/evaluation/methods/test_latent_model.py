"""Other models on the same autoencoder are scored in the same run, unless that would be no comparison."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.diffusion.ddpm import DdpmConfig
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_methods
from qdm_med.evaluation.methods.latent_model import load_latent_model
from qdm_med.evaluation.methods.qdm import downstream_only
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.inference.options import UpscaleOptions
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.compared.unet import LatentUnet, LatentUnetConfig

CPU = torch.device("cpu")
UNET = LatentUnetConfig(2, channels=(8, 8), res_blocks=(1, 1), attention=(False, True), head_channels=8)


@pytest.fixture(scope="module")
def save(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def save(name, *, autoencoder=checkpoint.autoencoder, **card):
        stated = {
            "threshold": 0.0,
            "scales": (4,),
            "steps": (2,),
            "training": {"patient_keys": ["someone else"]},
        } | card
        torch.manual_seed(0)
        path = folder / f"{name}.safetensors"
        save_checkpoint(
            path, ModelCard(name, checkpoint.card.autoencoder, UNET, **stated), autoencoder, LatentUnet(UNET)
        )
        return path

    return save


@pytest.fixture(scope="module")
def resshift(save):
    return save("resshift")


@pytest.fixture(scope="module")
def ldm(save):
    return save("ldm", schedule=DdpmConfig(steps=100), steps=(3,))


def test_they_are_rows_of_the_same_run_with_their_cost(store, checkpoint, resshift, ldm, tmp_path):
    options = BenchmarkOptions(
        "med-sr4", methods=("bicubic", "qdm"), latent_models=(resshift, ldm), every=2, count_macs=True
    )
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path))
    assert [row.method for row in found.rows[:4]] == [
        "bicubic", "tiny, 2 steps, s = 0.15", "resshift, 2 steps", "ldm, 3 steps",
    ]  # fmt: skip
    first, second = found.rows[2:4]
    assert (first.cost["steps"], second.cost["steps"], first.cost["leaf_density"]) == (2.0, 3.0, 1.0)
    assert 0 < first.cost["macs"] < second.cost["macs"]
    assert first.seconds > 0
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["latent_models"] == [load_checkpoint(path).sha256 for path in (resshift, ldm)]
    assert "resshift, 2 steps" in found.text()


def test_steps_apply_to_them_and_thresholds_do_not(checkpoint, resshift, ldm):
    options = BenchmarkOptions(
        "med-sr4", methods=(), latent_models=(resshift, ldm), steps=(1, 4), thresholds=(0.0, 0.15)
    )
    assert [method.name for method in benchmark_methods(checkpoint, options, CPU)] == [
        "resshift, 1 steps", "resshift, 4 steps", "ldm, 1 steps", "ldm, 4 steps",
    ]  # fmt: skip
    too_many = replace(options, steps=(16,), latent_models=(resshift,))
    with pytest.raises(ConfigError, match="steps must lie between 1 and 15"):
        benchmark_methods(checkpoint, too_many, CPU)


def test_a_sweep_is_of_the_model_under_test_alone(store, checkpoint, resshift):
    options = BenchmarkOptions("med-sr4", latent_models=(resshift,), every=4)
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU, sweep=(0.0, 0.15))
    assert {row.method.split(",")[0] for row in found.rows} == {"tiny"}


def test_another_autoencoder_is_refused(checkpoint, save):
    path = save("foreign", autoencoder=KlVae(checkpoint.card.autoencoder))
    with pytest.raises(CheckpointError, match=r"foreign has another autoencoder than tiny; train it with --vae"):
        load_latent_model(path, checkpoint)


def test_who_does_not_say_whom_it_saw_is_named_in_the_headline(store, checkpoint, save):
    options = BenchmarkOptions("med-sr4", latent_models=(save("silent", training={}),), methods=(), every=4)
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU)
    assert "silent lists no patients and was trained on another store: make sure" in found.headline


def test_patients_that_another_model_saw_are_scored_for_none(store, checkpoint, save):
    first, second = dict.fromkeys(record.patient for record in store.records if record.split == "val")
    path = save("leaky", training={"patient_keys": [first, "other"]})
    options = BenchmarkOptions("med-sr4", latent_models=(path,), methods=("bicubic",))
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU)
    assert {row.patient for row in found.rows} == {second}
    assert "2 slices of patients of the training left out" in found.headline


def test_one_stream_has_no_downstream_to_be_run_alone(checkpoint, resshift):
    with pytest.raises(CheckpointError, match="resshift has one stream"):
        downstream_only(load_latent_model(resshift, checkpoint), UpscaleOptions(), CPU)
