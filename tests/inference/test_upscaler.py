"""Super-resolution of slices: any size, the same bytes, HU kept, padding kept out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.checkpoints.model import Checkpoint
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.inference.consistency import block_mean, keep_local_mean, limit_overshoot
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.padding import fill_padding
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")


def ct_slice(rows, columns, *, seed=0, position=0.0):
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1000, 800, (rows // 4 + 1, columns // 4 + 1))
    hu = np.kron(coarse, np.ones((4, 4)))[:rows, :columns] + rng.normal(0, 10, (rows, columns))
    return CtSlice(hu.astype(np.float32), np.zeros((rows, columns), bool), position)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("shape", [(17, 23), (1, 1), (1, 40), (33, 20)])
def test_any_slice_size_is_magnified(tiny_checkpoint, scale, shape):
    result = Upscaler(tiny_checkpoint, UpscaleOptions(scale=scale, steps=2), device=CPU).upscale_slice(
        ct_slice(*shape), "a"
    )
    assert result.hu.shape == (shape[0] * scale, shape[1] * scale)
    assert result.hu.dtype == np.float32
    assert result.leaves.shape == shape
    assert np.isfinite(result.hu).all()


def test_the_same_seed_gives_the_same_bytes_whatever_came_before(tiny_checkpoint):
    slices = [ct_slice(20, 24, seed=number, position=number * 2.5) for number in range(3)]
    options = UpscaleOptions(steps=2, seed=7)
    forth = [Upscaler(tiny_checkpoint, options, device=CPU).upscale_slice(each, "series").hu for each in slices]
    upscaler = Upscaler(tiny_checkpoint, options, device=CPU)
    back = [upscaler.upscale_slice(each, "series").hu for each in reversed(slices)][::-1]
    for first, second in zip(forth, back, strict=True):
        assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("change", [{"seed": 8}, {"steps": 3}, {"threshold": 0.0}])
def test_options_change_the_result(tiny_checkpoint, change):
    base = {"seed": 7, "steps": 2, "threshold": 0.03}
    first, second = (
        Upscaler(tiny_checkpoint, UpscaleOptions(**options), device=CPU).upscale_slice(ct_slice(24, 24), "series").hu
        for options in (base, base | change)
    )
    assert not np.array_equal(first, second)


def test_series_and_position_key_the_noise(tiny_checkpoint):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(steps=2, threshold=0), device=CPU)
    base = upscaler.upscale_slice(ct_slice(16, 16), "series").hu
    assert not np.array_equal(upscaler.upscale_slice(ct_slice(16, 16), "other").hu, base)
    assert not np.array_equal(upscaler.upscale_slice(ct_slice(16, 16, position=1.0), "series").hu, base)


def test_a_slice_that_fits_into_one_tile_does_not_depend_on_the_tile(tiny_checkpoint):
    results = [
        Upscaler(tiny_checkpoint, UpscaleOptions(steps=2, tile=tile), device=CPU)
        .upscale_slice(ct_slice(30, 28), "s")
        .hu
        for tile in (32, 64, 128)
    ]
    assert results[0].tobytes() == results[1].tobytes() == results[2].tobytes()


@pytest.mark.parametrize(("scale", "tile", "stride"), [(4, 128, 112), (8, 64, 48)])
def test_default_tiles_are_the_papers(tiny_checkpoint, scale, tile, stride):
    tiling = Upscaler(tiny_checkpoint, UpscaleOptions(scale=scale), device=CPU).tiling
    assert (tiling.tile, tiling.stride) == (tile, stride)


def test_tiles_of_a_large_slice_fuse_without_a_gap(tiny_checkpoint):
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(steps=1, tile=32), device=CPU)
    result = upscaler.upscale_slice(ct_slice(61, 37), "series")
    assert result.hu.shape == (244, 148)
    assert result.windows <= result.windows_in_all


def test_hu_beyond_the_mapped_range_are_magnified_as_they_are(tiny_checkpoint):
    source = ct_slice(16, 16)
    metal = source.hu.copy()
    metal[4:8, 4:8] = 3071.0
    extended = metal.copy()
    extended[4:8, 4:8] = 9071.0
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(steps=1), device=CPU)
    clipped, full = (upscaler.upscale_slice(CtSlice(hu, source.padding, 0.0), "s").hu for hu in (metal, extended))
    np.testing.assert_allclose((full - clipped)[16:32, 16:32], 6000.0, atol=1e-2)
    np.testing.assert_allclose(np.delete(full - clipped, np.s_[16:32], axis=0), 0.0, atol=1e-2)


def test_what_lies_under_padding_does_not_matter(tiny_checkpoint):
    source = ct_slice(24, 24)
    padding = np.hypot(*(np.mgrid[:24, :24] - 11.5)) > 10
    upscaler = Upscaler(tiny_checkpoint, UpscaleOptions(steps=1), device=CPU)
    first, second = (
        upscaler.upscale_slice(CtSlice(np.where(padding, value, source.hu).astype(np.float32), padding, 0.0), "s").hu
        for value in (-2048.0, 3000.0)
    )
    np.testing.assert_array_equal(first, second)


def test_padding_is_filled_from_the_nearest_anatomy():
    hu = np.array([[1.0, 2.0, -2000.0, -2000.0]], dtype=np.float32)
    np.testing.assert_array_equal(fill_padding(hu, hu < -1000), [[1.0, 2.0, 2.0, 2.0]])
    assert (fill_padding(hu, np.ones_like(hu, bool)) == -1000).all()
    assert fill_padding(hu, np.zeros_like(hu, bool)) is hu


def test_a_drift_in_hu_is_undone_and_pixel_noise_is_not_put_back():
    rng = np.random.default_rng(0)
    truth = np.full((32, 32), 50.0, dtype=np.float32)
    source = truth + rng.normal(0, 20, truth.shape).astype(np.float32)
    drifted = np.kron(truth, np.ones((4, 4), dtype=np.float32)) + 15
    corrected = keep_local_mean(drifted, source, 4)
    assert abs(float(corrected.mean() - source.mean())) < 1.0
    assert corrected.std() < 5.0
    assert block_mean(corrected, 4).shape == (32, 32)


def test_overshoot_is_limited_by_the_neighbourhood_and_plausible_detail_is_kept():
    source = np.full((16, 16), 40.0, dtype=np.float32)
    source[:, 8:] = 140.0
    fine = np.kron(source, np.ones((4, 4), dtype=np.float32))
    fine[10, 30] = 235.0  # beside the edge: within one range of the neighbourhood
    fine[10, 4] = 90.0  # far from it: nothing there is anything but 40
    fine[20, 33] = 3000.0
    limited = limit_overshoot(fine, source, 4)
    assert limited[10, 30] == 235.0
    assert limited[10, 4] == 40.0
    assert limited[20, 33] == 240.0


def test_no_slice_leaves_the_range_of_its_source_by_more_than_250_hu():
    source = np.tile(np.array([-1000.0, 1000.0], dtype=np.float32), (8, 4))
    fine = np.full((32, 32), 2500.0, dtype=np.float32)
    assert limit_overshoot(fine, source, 4).max() == 1250.0
    assert limit_overshoot(-fine, source, 4).min() == -1250.0


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scale": 3}, CheckpointError),
        ({"steps": 0}, ConfigError),
        ({"steps": 16}, ConfigError),
        ({"threshold": -0.1}, ConfigError),
        ({"tile": 16}, ConfigError),
        ({"seed": -1}, ConfigError),
    ],
)
def test_options_out_of_range_are_refused(tiny_checkpoint, options, error):
    with pytest.raises(error):
        Upscaler(tiny_checkpoint, UpscaleOptions(**options), device=CPU)


def test_an_autoencoder_alone_cannot_upscale(tiny_checkpoint):
    alone = Checkpoint(tiny_checkpoint.card, tiny_checkpoint.autoencoder, None, "0")
    with pytest.raises(CheckpointError, match="without a denoiser"):
        Upscaler(alone, UpscaleOptions(), device=CPU)
