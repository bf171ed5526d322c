"""Tiles and their fusion: the paper's numbers, and properties of any average."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdm_med.errors import ConfigError
from qdm_med.inference.fusion import TileFusion, gaussian_profile
from qdm_med.inference.tiling import Tiling


@pytest.mark.parametrize("length", [32, 33, 256, 512])
def test_gaussian_profiles_are_the_papers(golden, length):
    expected = golden("tile_fusion")[f"kernel1d_{length}"]
    torch.testing.assert_close(gaussian_profile(length), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("length", [100, 128, 129, 200, 240, 241, 512, 555])
def test_tile_starts_are_the_papers(golden, length):
    assert Tiling(128, 112).starts(length) == golden("tile_fusion")[f"starts128_112_len{length}"].tolist()


@pytest.mark.parametrize("offsets", [False, True])
def test_fused_images_are_the_papers(golden, offsets):
    expected = golden("tile_fusion")
    image = expected["img"][0]
    fusion = TileFusion((3, 88, 120))
    for number, (rows, columns) in enumerate(Tiling(16, 12).regions(44, 60)):
        tile = image[:, rows, columns].repeat_interleave(2, 1).repeat_interleave(2, 2)
        fusion.add(tile + offsets * number, rows.start * 2, columns.start * 2)
    name = "nearest2_tile_offset" if offsets else "nearest2"
    torch.testing.assert_close(fusion.result(), expected[name][0], atol=1e-12, rtol=0)


@settings(max_examples=50, deadline=None)
@given(rows=st.integers(1, 90), columns=st.integers(1, 90), tile=st.integers(32, 64))
def test_fusing_tiles_of_one_image_returns_the_image(rows, columns, tile):
    image = torch.rand(1, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
    fusion = TileFusion((1, rows, columns))
    for region in Tiling.of(tile).regions(rows, columns):
        fusion.add(image[:, region[0], region[1]], region[0].start, region[1].start)
    torch.testing.assert_close(fusion.result(), image, atol=1e-12, rtol=0)


def test_a_gap_between_tiles_is_an_error():
    fusion = TileFusion((1, 4, 4))
    fusion.add(torch.zeros(1, 4, 3), 0, 0)
    with pytest.raises(RuntimeError, match="4 pixels"):
        fusion.result()


@pytest.mark.parametrize(("tile", "stride"), [(16, 0), (16, 17)])
def test_tiles_that_leave_gaps_are_refused(tile, stride):
    with pytest.raises(ConfigError, match="stride"):
        Tiling(tile, stride)
