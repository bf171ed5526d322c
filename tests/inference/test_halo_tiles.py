"""Tiles on whole windows with a short fade: they cover everything and leave no seam."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qdm_med.checkpoints.model import default_checkpoint, load_checkpoint
from qdm_med.errors import ConfigError
from qdm_med.inference.fusion import HALO, TileFusion, halo_profile
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.tiling import OVERLAP, HaloTiling
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING


@given(st.integers(1, 1200), st.sampled_from([(288, 16), (144, 8), (32, 16), (40, 8)]))
def test_tiles_cover_a_side_start_on_whole_windows_and_overlap(length, shape):
    tiling = HaloTiling(*shape)
    starts, side = tiling.starts(length), tiling.side_for(length)
    ends = [min(start + side, length) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == length
    assert all(start % tiling.align == 0 for start in starts)
    assert side <= tiling.tile
    assert all(end - start >= OVERLAP for end, start in zip(ends[:-1], starts[1:], strict=True))
    assert all(later > earlier for earlier, later in itertools.pairwise(ends))  # no tile in vain


@pytest.mark.parametrize(("scale", "tile"), [(4, 128), (8, 64)])
def test_tiles_are_those_of_the_size_that_the_model_was_trained_on(scale, tile):
    card = load_checkpoint(default_checkpoint("clinical")).card
    tiling = UpscaleOptions(scale=scale).tiling_for(card)
    assert tiling == HaloTiling(tile, 64 // scale)
    assert tile * scale == card.denoiser.trained_size * DOWNSAMPLING


def test_a_clinical_slice_needs_little_more_than_its_own_pixels():
    regions = list(HaloTiling(128, 16).regions(512, 512))
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in regions)
    assert len(regions) == 25
    assert pixels < 1.3 * 512**2


@pytest.mark.parametrize("size", [(60, 75), (33, 100)])
def test_tiles_cut_from_one_image_are_fused_to_that_image(size):
    image = torch.randn(1, 2 * size[0], 2 * size[1], generator=torch.Generator().manual_seed(0)).double()
    fusion = TileFusion(tuple(image.shape), partial(halo_profile, scale=2))
    for rows, columns in HaloTiling(40, 8).regions(*size):
        tile = image[:, 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
        fusion.add(tile, 2 * rows.start, 2 * columns.start)
    torch.testing.assert_close(fusion.result(), image)


def test_what_a_tile_says_on_its_halo_does_not_count_where_another_has_a_say():
    scale, side = 4, 32
    fusion = TileFusion((1, side * scale, (2 * side - OVERLAP) * scale), partial(halo_profile, scale=scale))
    first = torch.zeros(1, side * scale, side * scale)
    first[..., -HALO * scale :] = 1000.0  # it misses its surroundings there
    fusion.add(first, 0, 0)
    fusion.add(torch.zeros_like(first), 0, (side - OVERLAP) * scale)
    assert fusion.result().abs().max() < 1e-3


def test_two_tiles_fade_linearly_into_one_another():
    scale, side = 4, 32
    fusion = TileFusion((1, side * scale, (2 * side - OVERLAP) * scale), partial(halo_profile, scale=scale))
    ones = torch.ones(1, side * scale, side * scale)
    fusion.add(ones, 0, 0)
    fusion.add(2 * ones, 0, (side - OVERLAP) * scale)
    steps = fusion.result()[0, side * 2].diff()
    assert (steps >= -1e-12).all()
    assert steps.max() < 1.05 / ((OVERLAP - 2 * HALO) * scale)


@pytest.mark.parametrize("wrong", [(24, 8), (100, 16)])
def test_sides_that_do_not_serve_are_refused(wrong):
    with pytest.raises(ConfigError, match="multiple of"):
        HaloTiling(*wrong)
