"""What identifies a run is made of every option that its pixels depend on."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.options import WITHOUT_EFFECT, UpscaleOptions
from qdm_med.inference.runs.series import derivation_of
from qdm_med.inference.upscaler import Upscaler

BASE = UpscaleOptions(steps=2, quadtree="adaptive", consistency="spread")
OTHERS = {
    "scale": 8,
    "seed": 1,
    "mode": "faithful",
    "steps": 3,
    "samples": 2,
    "temperature": 0.3000001,
    "consistency": "hard",
    "quadtree": "paper",
    "threshold": 0.1500001,
    "noise_factor": 3.0,
    "tile": 64,
    "precision": "bfloat16",
    "fwhm": 1.4,
    "fusion": "halo",
    "batch_leaves": 100,
}
"""For every option a value that is not what it is by default."""


def key(checkpoint, options):
    return derivation_of(Upscaler(checkpoint, options, device=torch.device("cpu"))).job_key("a series")


@pytest.mark.parametrize("name", [one.name for one in fields(UpscaleOptions)])
def test_another_value_of_an_option_is_another_run_unless_it_is_without_effect(tiny_checkpoint, name):
    same = key(tiny_checkpoint, replace(BASE, **{name: OTHERS[name]})) == key(tiny_checkpoint, BASE)
    assert same == (name in WITHOUT_EFFECT)


def test_numbers_that_differ_in_their_last_digit_are_two_runs(tiny_checkpoint):
    first, second = (replace(BASE, temperature=value) for value in (0.3, 0.3 + 1e-16))
    assert key(tiny_checkpoint, first) != key(tiny_checkpoint, second)


def test_a_default_that_is_spelt_out_is_the_same_run(tiny_checkpoint):
    upscaler = Upscaler(tiny_checkpoint, BASE, device=torch.device("cpu"))
    assert key(tiny_checkpoint, upscaler.options) == key(tiny_checkpoint, BASE)


def test_tiles_made_smaller_for_the_memory_are_another_run(tiny_checkpoint):
    upscaler = Upscaler(tiny_checkpoint, BASE, device=torch.device("cpu"))
    before = derivation_of(upscaler)
    upscaler.keep_below(peak_bytes(upscaler.card, (512, 512), upscaler.tiling, 4) - 1, (512, 512))
    assert upscaler.tiling.tile < 128
    assert derivation_of(upscaler) != before


def test_tiles_of_a_series_do_not_depend_on_a_larger_one_before_it(tiny_checkpoint):
    after, alone = (Upscaler(tiny_checkpoint, BASE, device=torch.device("cpu")) for _ in range(2))
    limit = peak_bytes(alone.card, (512, 512), alone.tiling, 4) - 1
    after.keep_below(limit, (512, 512))
    for one in (after, alone):
        one.keep_below(limit, (64, 64))
    assert after.tiling == alone.tiling
    assert derivation_of(after) == derivation_of(alone)
