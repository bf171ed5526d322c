"""The model is scored as upscale runs it, and its ablations take away what they say."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.errors import CheckpointError
from qdm_med.evaluation.methods.qdm import dense, downstream_only, qdm
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")
OPTIONS = UpscaleOptions(scale=4, threshold=0.5)
LOW_HU = np.random.default_rng(0).integers(-900, 900, (16, 16)).astype(np.float32)


@pytest.fixture(scope="module")
def lively(checkpoint):
    """The tiny network with every path alive: fresh ones end in zeros."""
    generator = torch.Generator().manual_seed(1)
    denoiser = deepcopy(checkpoint.denoiser)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.normal_(std=0.05, generator=generator)
    return replace(checkpoint, denoiser=denoiser)


def test_the_model_is_scored_as_upscale_runs_it(lively):
    restored = qdm(lively, replace(OPTIONS, threshold=2.0), CPU).restore(LOW_HU, 4)
    upscaler = Upscaler(lively, replace(OPTIONS, threshold=2.0), device=CPU)
    expected = upscaler.upscale_slice(
        CtSlice(LOW_HU, np.zeros_like(LOW_HU, bool), 0.0), "any: the threshold leaves no noise"
    )
    np.testing.assert_array_equal(restored.hu, expected.hu)


def test_the_same_slice_gives_the_same_pixels_whatever_came_before(lively):
    method = qdm(lively, replace(OPTIONS, threshold=0.0), CPU)
    first = method.restore(LOW_HU, 4).hu
    method.restore(LOW_HU + 1, 4)
    np.testing.assert_array_equal(method.restore(LOW_HU, 4).hu, first)


def test_it_tells_its_name_its_leaves_and_its_cost(lively):
    method = qdm(lively, OPTIONS, CPU, counted=True)
    restored = method.restore(LOW_HU, 4)
    assert method.name == "tiny, 2 steps, s = 0.5"
    assert restored.leaves.shape == (16, 16)
    assert restored.cost["leaf_density"] == restored.leaves.mean()
    assert (restored.cost["threshold"], restored.cost["steps"], restored.cost["windows_in_all"]) == (0.5, 2.0, 1.0)
    assert restored.cost["macs"] > 0
    assert "macs" not in qdm(lively, OPTIONS, CPU).restore(LOW_HU, 4).cost


def test_counting_changes_no_pixel_and_density_costs(lively):
    sparse, full = (qdm(lively, replace(OPTIONS, threshold=s), CPU, counted=True) for s in (2.0, 0.0))
    np.testing.assert_array_equal(full.restore(LOW_HU, 4).hu, dense(lively, OPTIONS, CPU).restore(LOW_HU, 4).hu)
    assert full.restore(LOW_HU, 4).cost["macs"] > sparse.restore(LOW_HU, 4).cost["macs"]


def test_dense_activates_every_leaf(lively):
    method = dense(lively, OPTIONS, CPU)
    assert method.name == "tiny, 2 steps, s = 0"
    assert method.restore(LOW_HU, 4).leaves.all()


def test_downstream_only_does_not_depend_on_the_upstream(lively):
    alone = downstream_only(lively, OPTIONS, CPU).restore(LOW_HU, 4)
    assert alone.leaves.all()
    with_both = dense(lively, OPTIONS, CPU).restore(LOW_HU, 4)
    assert not np.array_equal(alone.hu, with_both.hu)
    other = replace(lively, denoiser=other_upstream(lively.denoiser))
    np.testing.assert_array_equal(downstream_only(other, OPTIONS, CPU).restore(LOW_HU, 4).hu, alone.hu)
    assert not np.array_equal(dense(other, OPTIONS, CPU).restore(LOW_HU, 4).hu, with_both.hu)


def other_upstream(denoiser):
    """The network with another upstream."""
    changed = deepcopy(denoiser)
    with torch.no_grad():
        for parameter in changed.upstream.parameters():
            parameter.mul_(1.5)
    return changed


def test_an_autoencoder_alone_is_refused(lively):
    with pytest.raises(CheckpointError, match="autoencoder without a denoiser"):
        downstream_only(replace(lively, denoiser=None), OPTIONS, CPU)
