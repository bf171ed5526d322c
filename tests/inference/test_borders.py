"""At its last rows and columns a slice of any size is as right as inside."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.padding import in_whole_windows
from qdm_med.inference.upscaler import Upscaler, load_upscaler
from qdm_med.volume import CtSlice
from tests.inference.test_plan import patient

CPU = torch.device("cpu")


def upscaled(model, hu):
    return model.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "series").hu


def area_mean(hu, scale):
    rows, columns = (side // scale for side in hu.shape)
    return hu.reshape(rows, scale, columns, scale).mean((1, 3))


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 16), (17, 33), (32, 48)])
def test_images_are_reflected_to_whole_windows_and_no_further(shape):
    image = torch.randn((1, *shape))
    seen = in_whole_windows(image, 16)
    assert seen.shape == (1, *(-(-side // 16) * 16 for side in shape))
    rows, columns = (np.pad(np.arange(n), (0, -n % 16), mode="reflect" if n > 1 else "edge") for n in shape)
    assert torch.equal(seen, image[:, rows][:, :, columns])


@pytest.mark.parametrize(("scale", "shape"), [(4, (49, 35)), (8, (21, 43))])
def test_a_slice_of_any_size_is_computed_as_its_reflection(tiny_checkpoint, scale, shape):
    rows, columns = shape
    hu = patient(64, noise=20)[10 : 10 + rows, 8 : 8 + columns]
    window = 64 // scale
    whole = np.pad(hu, ((0, -rows % window), (0, -columns % window)), mode="reflect")
    model = Upscaler(
        tiny_checkpoint, UpscaleOptions(scale=scale, steps=1, threshold=0.0, consistency="off"), device=CPU
    )
    found, expected = upscaled(model, hu), upscaled(model, whole)
    assert found.shape == (rows * scale, columns * scale)
    inside = np.s_[: scale * (rows - 3), : scale * (columns - 3)]  # bounds look at five source pixels
    np.testing.assert_allclose(found[inside], expected[inside], atol=0.02)


def test_a_tile_that_is_no_multiple_of_a_window_is_computed_as_its_reflection(tiny_checkpoint):
    model = Upscaler(tiny_checkpoint, UpscaleOptions(steps=1, tile=41), device=CPU)
    work = model.planner.plan(CtSlice(patient(64, noise=20), np.zeros((64, 64), bool), 0.0))
    assert len(work.tiles) == 4
    for tile in work.tiles:
        assert tile.size == (41, 41)
        assert tile.image.shape == (1, 48, 48)
        assert torch.equal(tile.image[:, 41:], tile.image[:, 33:40].flip(1))


@pytest.mark.parametrize("shape", [(61, 75), (33, 50)])
def test_the_embedded_model_is_as_right_at_the_last_rows_and_columns_as_in_a_larger_slice(shape):
    hu = patient(96, noise=10)
    model = load_upscaler(device="cpu")
    rows, columns = shape
    wrong = [
        np.abs(area_mean(upscaled(model, each)[: 4 * rows, : 4 * columns], 4) - hu[:rows, :columns])
        for each in (hu[:rows, :columns], hu)
    ]
    for border in (np.s_[-2:, :], np.s_[:, -2:]):
        assert wrong[0][border].mean() <= 1.25 * wrong[1][border].mean() + 5
