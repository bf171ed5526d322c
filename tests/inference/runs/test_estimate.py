"""What is said before a run: work, memory and pictures, and nothing written."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.errors import ConfigError, SeriesError
from qdm_med.inference.memory import peak_bytes, tile_within
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.estimate import SAMPLED, estimate_volume
from qdm_med.inference.runs.explain import ACTIVE, explain_volume, overlay
from qdm_med.inference.tiling import Tiling
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.read import read_volume
from qdm_med.volume import Geometry, Volume


def phantom(slices=6, side=40):
    """Every second slice is air, the others hold a square."""
    hu = np.full((slices, side, side), -1000.0, dtype=np.float32)
    hu[::2, 9:31, 9:31] = 60.0
    return Volume.from_array(hu, Geometry(hu.shape, np.diag([2.0, 1.0, 1.0, 1.0])))


@pytest.fixture
def upscaler(tiny_checkpoint):
    return Upscaler(tiny_checkpoint, UpscaleOptions(steps=1, quadtree="adaptive"), device=torch.device("cpu"))


def test_the_work_of_a_series_is_told_before_it_is_done(upscaler):
    volume = phantom()
    told = estimate_volume(volume, upscaler)
    works = [upscaler.planner.plan(each) for each in volume]
    assert (told.slices, told.shape, told.empty_slices) == (6, (40, 40), 3)
    assert told.windows == sum(work.windows for work in works)
    assert told.windows_in_all == sum(work.windows_in_all for work in works)
    assert told.active_leaves == pytest.approx(np.mean([work.leaves.mean() for work in works]))
    assert told.output_bytes == 6 * 160 * 160 * 2
    assert estimate_volume(volume, upscaler, matrix=(100, 90)).output_bytes == 6 * 100 * 90 * 2
    assert told.seconds > 0


def test_of_a_long_series_a_sample_is_looked_at(upscaler):
    volume, planned = phantom(slices=200, side=16), []
    plan = upscaler.plan
    upscaler.plan = lambda *arguments: planned.append(arguments) or plan(*arguments)
    assert estimate_volume(volume, upscaler).slices == 200
    assert len(planned) == SAMPLED


def test_a_series_of_air_is_nearly_free(upscaler):
    volume = Volume.from_array(
        np.full((3, 24, 24), -1000.0, np.float32), Geometry((3, 24, 24), np.diag([2.0, 1.0, 1.0, 1.0]))
    )
    told = estimate_volume(volume, upscaler)
    assert (told.empty_slices, told.windows) == (3, 0)


def test_tiles_become_smaller_until_the_memory_suffices(upscaler):
    card, shape = upscaler.card, (512, 512)
    roomy = peak_bytes(card, shape, Tiling.of(128), 8)
    assert tile_within(card, shape, Tiling.of(128), 8, roomy) == Tiling.of(128)
    smaller = tile_within(card, shape, Tiling.of(128), 8, roomy - 1)
    assert smaller == Tiling.of(112)
    assert peak_bytes(card, shape, smaller, 8) < roomy
    with pytest.raises(ConfigError, match=r"512x512 at x8 need .* GiB.*--max-memory"):
        tile_within(card, shape, Tiling.of(128), 8, 2**20)


def test_the_picture_tints_active_leaves_and_nothing_else(upscaler):
    work = upscaler.planner.plan(phantom().slices[0])
    picture = overlay(work)
    assert picture.shape == (520, 520, 3)
    coloured = (np.ptp(picture.astype(int), axis=-1) > 0)[6::13, 6::13]
    np.testing.assert_array_equal(coloured, work.leaves)
    assert ACTIVE[0] > ACTIVE[2]
    assert (picture[6::13, 6::13][work.leaves][:, 0] > picture[6::13, 6::13][work.leaves][:, 2]).all()


def test_there_is_a_picture_a_slice_and_a_taken_folder_is_refused(upscaler, tmp_path):
    nib.save(nib.Nifti1Image(phantom().hu.T, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "ct.nii.gz")
    assert explain_volume(read_volume(tmp_path / "ct.nii.gz"), tmp_path / "why", upscaler) == 6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii.gz", "why"]
    names = [f"{number:05d}.png" for number in range(1, 7)]
    assert sorted(path.name for path in (tmp_path / "why").iterdir()) == names
    with Image.open(tmp_path / "why" / names[0]) as picture:
        assert picture.size == (520, 520)
    with pytest.raises(SeriesError, match="explain-quadtree"):
        explain_volume(read_volume(tmp_path / "ct.nii.gz"), tmp_path / "why", upscaler)


def test_a_source_that_breaks_off_leaves_no_pictures(upscaler, tmp_path):
    whole = phantom()

    class Broken:
        def __len__(self):
            return len(whole)

        def __getitem__(self, index):
            if index == 2:
                raise SeriesError("a file has gone")
            return whole.slices[index]

    with pytest.raises(SeriesError, match="has gone"):
        explain_volume(replace(whole, slices=Broken()), tmp_path / "why", upscaler)
    assert list(tmp_path.iterdir()) == []
