"""A series from files to files: resumable, atomic, true to its source."""

from __future__ import annotations

import hashlib

import pydicom
import pytest
import torch

from qdm_med.errors import SeriesError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.series import upscale_series
from qdm_med.inference.upscaler import Upscaler

CPU = torch.device("cpu")
SLICES = 4  # of the fixture `source`


@pytest.fixture
def upscaler(tiny_checkpoint):
    return Upscaler(tiny_checkpoint, UpscaleOptions(steps=2, threshold=0.02), device=CPU)


def pixels(folder):
    slices = [pydicom.dcmread(path) for path in folder.iterdir()]
    return {slice_.SourceImageSequence[0].ReferencedSOPInstanceUID: slice_.PixelData for slice_ in slices}


def checksums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_every_slice_is_derived_and_the_source_is_untouched(source, upscaler, tmp_path):
    before = checksums(source)
    summary = upscale_series(source, tmp_path / "out", upscaler)
    assert (summary.slices, summary.resumed) == (SLICES, 0)
    assert 0 < summary.active_leaves <= 1
    assert 0 < summary.active_windows <= 1
    assert len(pixels(tmp_path / "out")) == SLICES
    assert checksums(source) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_an_interrupted_run_is_taken_up_again_and_ends_with_the_same_pixels(source, upscaler, tmp_path):
    upscale_series(source, tmp_path / "whole", upscaler)

    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        upscale_series(source, tmp_path / "out", upscaler, progress=interrupt)
    assert not (tmp_path / "out").exists()
    summary = upscale_series(source, tmp_path / "out", upscaler)
    assert summary.resumed >= 2  # what was being written when the run was stopped is finished, too
    assert pixels(tmp_path / "out") == pixels(tmp_path / "whole")
    series = {pydicom.dcmread(path).SeriesInstanceUID for path in (tmp_path / "out").iterdir()}
    assert len(series) == 1


def test_a_run_that_is_begun_in_one_way_is_not_gone_on_with_in_another(source, tiny_checkpoint, tmp_path):
    first, second = (
        Upscaler(tiny_checkpoint, UpscaleOptions(steps=2, quadtree="adaptive", noise_factor=factor), device=CPU)
        for factor in (1.3, 3.0)
    )

    def interrupt(done, total, ct_slice):
        if done == 2:
            raise KeyboardInterrupt

    upscale_series(source, tmp_path / "whole", second)
    with pytest.raises(KeyboardInterrupt):
        upscale_series(source, tmp_path / "out", first, progress=interrupt)
    assert upscale_series(source, tmp_path / "out", second).resumed == 0
    assert pixels(tmp_path / "out") == pixels(tmp_path / "whole")


def test_a_slice_does_not_depend_on_the_others(source, upscaler, tmp_path):
    upscale_series(source, tmp_path / "all", upscaler)
    (source / "3.dcm").unlink()
    upscale_series(source, tmp_path / "some", upscaler)
    whole = pixels(tmp_path / "all")
    for uid, data in pixels(tmp_path / "some").items():
        assert data == whole[uid]


def test_a_failed_run_leaves_nothing(source, upscaler, tmp_path):
    def fail(done, total, ct_slice):
        if done == 2:
            raise SeriesError("a disk is full")

    with pytest.raises(SeriesError):
        upscale_series(source, tmp_path / "out", upscaler, progress=fail)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_our_own_output_is_refused_as_a_source(source, upscaler, tmp_path):
    upscale_series(source, tmp_path / "out", upscaler)
    with pytest.raises(SeriesError, match="--force"):
        upscale_series(tmp_path / "out", tmp_path / "again", upscaler)
    assert not (tmp_path / "again").exists()


def test_progress_is_told_of_every_slice(source, upscaler, tmp_path):
    told = []
    upscale_series(source, tmp_path / "out", upscaler, progress=lambda *state: told.append(state[:2]))
    assert told == [(done, SLICES) for done in range(SLICES + 1)]
