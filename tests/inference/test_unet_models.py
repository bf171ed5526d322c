"""Checkpoints of other methods are run as the model is, and nothing is left out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.series import upscale_series
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")


def ct_slice(rows, columns, *, seed=0, position=0.0):
    hu = np.random.default_rng(seed).normal(0, 200, (rows, columns)).astype(np.float32)
    return CtSlice(hu, np.zeros((rows, columns), bool), position)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("shape", [(17, 23), (1, 1), (33, 20)])
def test_any_slice_size_is_magnified_with_every_leaf_active(unet_checkpoint, scale, shape):
    result = Upscaler(unet_checkpoint, UpscaleOptions(scale=scale), device=CPU).upscale_slice(ct_slice(*shape), "a")
    assert result.hu.shape == (shape[0] * scale, shape[1] * scale)
    assert np.isfinite(result.hu).all()
    assert result.leaves.all()
    assert result.windows == result.windows_in_all


def test_the_same_seed_gives_the_same_bytes_whatever_came_before(unet_checkpoint):
    slices = [ct_slice(20, 24, seed=number, position=number * 2.5) for number in range(3)]
    options = UpscaleOptions(seed=7)
    forth = [Upscaler(unet_checkpoint, options, device=CPU).upscale_slice(each, "series").hu for each in slices]
    upscaler = Upscaler(unet_checkpoint, options, device=CPU)
    back = [upscaler.upscale_slice(each, "series").hu for each in reversed(slices)][::-1]
    assert [first.tobytes() for first in forth] == [second.tobytes() for second in back]


@pytest.mark.parametrize("change", [{"seed": 8}, {"steps": 3}, {"temperature": 0.5}, {"tile": 32}])
def test_options_change_the_result(unet_checkpoint, change):
    base = {"seed": 7, "steps": 2}
    first, second = (
        Upscaler(unet_checkpoint, UpscaleOptions(**options), device=CPU).upscale_slice(ct_slice(40, 40), "series").hu
        for options in (base, base | change)
    )
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("wish", [{"threshold": 0.15}, {"quadtree": "adaptive"}])
def test_a_mask_is_refused(unet_checkpoint, wish):
    with pytest.raises(ConfigError, match=r"has no mask, every leaf is active; .* not 0\.\d+$"):
        Upscaler(unet_checkpoint, UpscaleOptions(**wish), device=CPU)


@pytest.mark.parametrize(
    "wish", [{"threshold": 0.0}, {"mode": "detailed", "steps": 2}, {"quadtree": "adaptive", "threshold": 0.0}]
)
def test_what_asks_for_all_leaves_is_the_default(unet_checkpoint, wish):
    plain, asked = (
        Upscaler(unet_checkpoint, UpscaleOptions(**options), device=CPU).upscale_slice(ct_slice(24, 24), "a").hu
        for options in ({}, wish)
    )
    np.testing.assert_array_equal(asked, plain)


def test_a_series_is_upscaled(unet_checkpoint, source, tmp_path):
    summary = upscale_series(source, tmp_path / "out", Upscaler(unet_checkpoint, UpscaleOptions(), device=CPU))
    assert summary.slices == len(list((tmp_path / "out").glob("*.dcm"))) == 4


def test_the_memory_bound_counts_the_library(unet_checkpoint, tiny_checkpoint):
    tiling = Upscaler(unet_checkpoint, UpscaleOptions(), device=CPU).tiling
    unet, ours = (peak_bytes(each.card, (128, 128), tiling, 4) for each in (unet_checkpoint, tiny_checkpoint))
    assert unet - ours >= 300 * 2**20
