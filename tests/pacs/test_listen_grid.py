"""What a listener sends on a grid of the operator's choice, and what it tells while a slice is under way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pydicom
import pytest

from qdm_med.inference.runs.matrix import Grid
from qdm_med.inference.tiling import Tiling
from qdm_med.io.read import read_volume
from qdm_med.models.qdm.quadtree import PaperQuadtree
from qdm_med.resample import area_mean
from tests.pacs.pushed import push, stored


def test_the_operator_hears_of_every_tile_of_a_slice(
    archive, listener, make_series, tmp_path, wait, upscaler, monkeypatch
):
    monkeypatch.setattr(
        upscaler, "planner", replace(upscaler.planner, tiling=Tiling.of(32), quadtree=PaperQuadtree(0.0))
    )
    one = make_series(tmp_path / "wide", slices=1, repeated=(4, 3))
    seen = []
    node = listener(archive().node, watch=lambda *now: seen.append(now))
    push(node, one)
    wait(30, lambda: node.told("stored by"))
    tiles = len(upscaler.tiling.starts(64)) * len(upscaler.tiling.starts(60))
    assert [done for _, done, _ in seen] == pytest.approx([number / tiles for number in range(tiles)] + [1])


@pytest.mark.parametrize(
    ("grid", "rows_columns", "scale"),
    [
        (Grid(matrix=50), (40, 50), 4),
        (Grid(matrix=100), (80, 100), 8),  # more than 4 x 20
        (Grid(spacing=0.661468 / 2.5), (40, 50), 4),
    ],
)
def test_a_pushed_series_comes_back_on_the_grid_that_was_asked_for(
    archive, listener, series, wait, upscalers, grid, rows_columns, scale
):
    peer = archive()
    node = listener(peer.node, grid=grid)
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    rows, columns = rows_columns
    assert node.told(f"3 slices at x{scale}, averaged to {rows}x{columns}, in ")
    source = pydicom.dcmread(next(series.iterdir()))
    opened = read_volume(series)
    whole = {}
    for one in opened.slices:
        magnified = upscalers.at(scale).upscale_slice(one, opened.provenance.series_key)
        whole[one.position_mm] = area_mean(magnified.hu, rows_columns)
    for each in stored(peer):
        assert (each.Rows, each.Columns) == rows_columns
        assert f"{scale}x{scale} in-plane" in each.DerivationDescription
        assert f"averaged by area to {rows}x{columns}" in each.DerivationDescription
        assert f"SRx{scale} AI {rows}x{columns}" in each.SeriesDescription
        np.testing.assert_allclose(each.PixelSpacing, np.array(source.PixelSpacing) * 16 / rows, rtol=1e-6)
        hu = each.pixel_array * float(each.RescaleSlope) + float(each.RescaleIntercept)
        np.testing.assert_allclose(hu, whole[float(each.ImagePositionPatient[2])], atol=0.51)


def test_a_series_that_is_finer_than_the_grid_or_too_coarse_for_it_is_put_aside(archive, listener, series, wait):
    for number, (grid, told) in enumerate(
        ((Grid(matrix=10), "coarser than the source"), (Grid(spacing=0.01), "ask for at most 160")), start=1
    ):
        node = listener(archive().node, grid=grid)
        push(node, series)
        wait(30, lambda node=node: node.told("put aside"))
        assert told in (node.spool / "failed" / f"{number:06d}" / "reason.txt").read_text()
        node.end()
