"""Modes name settings, single options go before them, and what cannot be is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.data.noise_level import noise_hu
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.inference.options import MODES, UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.models.qdm.quadtree import PaperQuadtree
from qdm_med.resample import block_mean
from qdm_med.volume import CtSlice


@pytest.mark.parametrize("purpose", MODES)
def test_a_mode_is_a_default_that_single_options_override(tiny_checkpoint, purpose):
    card = replace(tiny_checkpoint.card, steps=(3, 5), purpose=purpose)
    assert UpscaleOptions(mode="balanced").sampling_for(card) == (3, 1, 1.0)
    assert UpscaleOptions(mode="balanced", scale=8).sampling_for(card) == (5, 1, 1.0)
    for name, mode in MODES[purpose].items():
        assert UpscaleOptions(mode=name).sampling_for(card) == (mode.steps or 3, mode.samples, mode.temperature)
        chosen = UpscaleOptions(mode=name, steps=7, samples=2, temperature=0.5)
        assert chosen.sampling_for(card) == (7, 2, 0.5)


def test_models_for_clinical_slices_are_asked_for_what_is_likely_and_agree_through_the_point_spread(tiny_checkpoint):
    for purpose, expected in (
        ("benchmark", ("balanced", "off", "gaussian")),
        ("clinical", ("faithful", "spread", "halo")),
    ):
        settled = UpscaleOptions().settled_for(replace(tiny_checkpoint.card, purpose=purpose))
        assert (settled.mode, settled.consistency, settled.fusion) == expected
    assert settled.temperature == 0.0  # no invented texture


def test_a_point_spread_belongs_to_the_agreement_that_uses_it(tiny_checkpoint):
    clinical = replace(tiny_checkpoint.card, purpose="clinical")
    assert UpscaleOptions(fwhm=1.4).settled_for(clinical).fwhm == 1.4
    with pytest.raises(ConfigError, match="fwhm belongs to consistency spread, not local"):
        UpscaleOptions(fwhm=1.4, consistency="local").settled_for(clinical)
    with pytest.raises(ConfigError, match=r"fwhm must lie in \[0, 5\]"):
        UpscaleOptions(fwhm=9.0)


def test_a_mode_does_not_ask_for_more_steps_than_the_chain_has(tiny_checkpoint):
    card = replace(tiny_checkpoint.card, schedule=ScheduleConfig(steps=6))
    assert UpscaleOptions(mode="detailed").sampling_for(card).steps == 6


def test_the_detailed_mode_refines_every_leaf_unless_a_threshold_is_given(tiny_checkpoint):
    card = tiny_checkpoint.card
    assert UpscaleOptions(mode="detailed").quadtree_for(card) == PaperQuadtree(0.0)
    assert UpscaleOptions(mode="detailed", threshold=0.1).quadtree_for(card) == PaperQuadtree(0.1)
    assert UpscaleOptions(mode="faithful").quadtree_for(card) == PaperQuadtree(card.threshold)


def upscaled(checkpoint, seed=0, **options):
    hu = np.random.default_rng(0).uniform(-800, 400, (24, 24)).astype(np.float32)
    upscaler = Upscaler(checkpoint, UpscaleOptions(seed=seed, threshold=0.0, **options), device=torch.device("cpu"))
    return upscaler.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "series").hu


def test_without_noise_the_seed_does_not_matter(tiny_checkpoint):
    first, second = (upscaled(tiny_checkpoint, seed, steps=2, temperature=0.0) for seed in (0, 1))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(upscaled(tiny_checkpoint, 0, steps=2), upscaled(tiny_checkpoint, 1, steps=2))


def test_means_of_samples_differ_less_than_samples(tiny_checkpoint):
    def spread(samples):
        images = [upscaled(tiny_checkpoint, seed, steps=3, samples=samples) for seed in range(4)]
        return np.std(images, axis=0).mean()

    assert spread(8) < 0.6 * spread(1)


def test_the_first_sample_of_many_is_the_only_one_of_one(tiny_checkpoint):
    one, two = (upscaled(tiny_checkpoint, steps=2, samples=samples) for samples in (1, 2))
    assert not np.array_equal(one, two)
    np.testing.assert_array_equal(one, upscaled(tiny_checkpoint, steps=2))


def test_what_samples_have_in_common_is_computed_once(tiny_checkpoint, monkeypatch):
    asked = []
    for owner, name in ((tiny_checkpoint.autoencoder, "encode"), (tiny_checkpoint.denoiser, "read_source")):
        work = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given, name=name, work=work: asked.append(name) or work(*given))
    upscaled(tiny_checkpoint, steps=2, samples=3)
    assert sorted(asked) == ["encode", "read_source"]


@pytest.mark.parametrize(
    "wrong", [{"samples": 0}, {"temperature": -1.0}, {"mode": "best"}, {"consistency": "firm"}, {"batch_leaves": -1}]
)
def test_numbers_and_names_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        UpscaleOptions(**wrong)


def test_a_scale_that_was_not_trained_is_refused_in_every_mode(tiny_checkpoint):
    for mode in MODES["benchmark"]:
        with pytest.raises(CheckpointError, match="x3"):
            UpscaleOptions(scale=3, mode=mode).sampling_for(tiny_checkpoint.card)


@pytest.mark.parametrize(
    ("consistency", "largest"), [("hard", 1e-2), ("soft", 1e3), ("spread", 1e3), ("local", 1e3), ("off", 1e3)]
)
def test_consistency_is_as_asked(tiny_checkpoint, consistency, largest):
    hu = np.random.default_rng(0).uniform(-800, 400, (24, 24)).astype(np.float32)
    difference = np.abs(block_mean(upscaled(tiny_checkpoint, steps=1, consistency=consistency), 4) - hu)
    assert difference.max() <= largest
    if consistency == "soft":
        assert difference.max() <= 2 * noise_hu(hu) + 1e-2
    if consistency != "hard":
        assert difference.max() > 1.0
