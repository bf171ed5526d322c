"""Latents without a network: ``train-vae`` measures their unit and nothing else, and a denoiser is trained on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from qdm_med.checkpoints.model import load_checkpoint
from qdm_med.errors import ConfigError
from qdm_med.training.experiment import load_config
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import Start, run_denoiser, run_vae
from tests.shapes import TINY_DENOISER

CONFIGS = Path(__file__).parents[2] / "configs"
LOOP = LoopConfig(steps=2, batch=2, warmup=1, log_every=1, save_every=2, validate_every=2)
CLINICAL = replace(
    TINY_DENOISER,
    latent_channels=16,
    trunk_blocks=0,
    head_blocks=1,
    source_sees="contrast",
    source_is_base=True,
    see_shift=True,
    noise_everywhere=True,
)
TRAINING = DenoiserTrainingConfig(
    crops=(32,), benchmark_share=0.0, clinical_share=1.0, decoded_weight=1.0, cold_share=0.5, validation_slices=1
)


@pytest.fixture(scope="module")
def pixels(store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pixels")
    run_vae(load_config(CONFIGS / "vae_pixels.yaml"), Start(store, folder, "cpu", report=lambda line: None))
    return folder / CHECKPOINT_FILE


def trained(store, vae, out, training, initial=None):
    config = replace(load_config(CONFIGS / "qdm_c.yaml"), denoiser=CLINICAL, training=training, loop=LOOP, name="tiny")
    run_denoiser(config, Start(store, out, "cpu", report=lambda line: None), vae, initial=initial)
    return load_checkpoint(out / CHECKPOINT_FILE)


def test_the_unit_of_the_latents_is_measured_and_the_map_recorded(pixels):
    checkpoint = load_checkpoint(pixels)
    assert checkpoint.card.intensity.kind == "asinh"
    deviation = 1 / float(checkpoint.autoencoder.latent_scale[0])
    assert 0.005 < deviation < 0.5
    assert deviation == pytest.approx(round(deviation, 2), abs=1e-6)


def test_a_model_trained_on_clinical_pairs_says_what_it_is_for_and_what_it_has_seen(store, pixels, tmp_path):
    card = trained(store, pixels, tmp_path / "run", TRAINING).card
    assert card.purpose == "clinical"
    assert card.training["domain"] == {"noise_hu": [0.0, 45.0], "fwhm_pixels": [0.0, 2.3]}


def test_an_encoder_that_is_kept_keeps_its_weights_while_the_streams_learn(store, pixels, tmp_path):
    first = trained(store, pixels, tmp_path / "first", replace(TRAINING, source_weight=1.0))
    kept = trained(
        store, pixels, tmp_path / "kept", replace(TRAINING, keep_source=True), tmp_path / "first" / CHECKPOINT_FILE
    )
    before, after = first.denoiser.state_dict(), kept.denoiser.state_dict()
    source = [name for name in before if name.startswith(("source.stem", "source.blocks", "source.shift"))]
    assert source
    assert all(before[name].equal(after[name]) for name in source)
    assert not before["read_out.weight"].equal(after["read_out.weight"])


def test_a_network_without_an_encoder_has_none_to_keep(store, pixels, tmp_path):
    bare = replace(CLINICAL, source_channels=0, source_blocks=0, source_is_base=False)
    config = replace(
        load_config(CONFIGS / "qdm_c.yaml"), denoiser=bare, training=replace(TRAINING, keep_source=True), loop=LOOP
    )
    with pytest.raises(ConfigError, match="keep_source needs an encoder"):
        run_denoiser(config, Start(store, tmp_path / "bare", "cpu", report=lambda line: None), pixels)
