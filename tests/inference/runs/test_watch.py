"""A volume is opened once, and no slice is read or super-resolved twice for whoever looks at a run."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.preflight import look_at
from qdm_med.inference.runs.series import upscale_volume
from qdm_med.inference.runs.watch import Watch
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.read import read_volume

CPU = torch.device("cpu")


@pytest.fixture
def upscaler(tiny_checkpoint):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(steps=1, samples=2, threshold=0.02), device=CPU)
    compute, upscaler.plans_computed = upscaler.compute, []
    upscaler.compute = lambda plans, **how: upscaler.plans_computed.extend(plans) or compute(plans, **how)
    return upscaler


@pytest.fixture
def volume(source, monkeypatch):
    opened = read_volume(source)
    read = type(opened.slices).__getitem__
    reads = Counter()

    def counted(slices, index):
        reads[index] += 1
        return read(slices, index)

    monkeypatch.setattr(type(opened.slices), "__getitem__", counted)
    return opened, reads


def test_what_is_watched_is_read_and_computed_once(volume, upscaler, tmp_path):
    opened, reads = volume
    watch = Watch({0, 2})
    preflight = look_at(opened, upscaler.card)
    assert set(reads.values()) == {1}  # a slice that is looked at is decoded once for all that looks at it
    reads.clear()
    upscale_volume(opened, tmp_path / "out", upscaler, watch=watch, preflight=preflight)
    seen = watch.complete(opened, upscaler)
    assert [one.number for one in seen] == [0, 2]
    assert reads == Counter(range(len(opened)))
    assert len(upscaler.plans_computed) == len(opened)
    assert all(one.result.std_hu is not None for one in seen)  # of two samples, though none was to be written


def test_a_slice_that_a_killed_run_had_finished_is_made_again_to_the_same_pixels(volume, upscaler, tmp_path):
    opened, _ = volume
    whole = Watch({0})
    upscale_volume(opened, tmp_path / "whole", upscaler, watch=whole)

    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_volume(opened, tmp_path / "out", upscaler, progress=interrupt)
    watch = Watch({0})
    assert upscale_volume(opened, tmp_path / "out", upscaler, watch=watch).resumed >= 2
    assert not watch.seen
    (again,), (first,) = watch.complete(opened, upscaler), whole.complete(opened, upscaler)
    assert again.result.hu.tobytes() == first.result.hu.tobytes()
    np.testing.assert_array_equal(again.result.std_hu, first.result.std_hu)
