"""Tiles on whole windows with a short fade: they cover everything and leave no seam."""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qdm_med.checkpoints.model import default_checkpoint, load_checkpoint
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.errors import ConfigError
from qdm_med.inference.fusion import TileFusion, halo_profile
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.tiling import HALO_OVERLAP, OVERLAP, HaloTiling, Tiling
from qdm_med.inference.upscaler import load_upscaler
from qdm_med.keys import keyed
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.volume import CtSlice

SHAPES = [(544, 16, 32), (272, 8, 32), (64, 16, 32), (72, 8, 32), (128, 16, 16), (32, 8, 16)]


@given(st.integers(1, 1200), st.sampled_from(SHAPES))
def test_tiles_cover_a_side_start_on_whole_windows_and_overlap(length, shape):
    tiling = HaloTiling(*shape)
    starts, side = tiling.starts(length), tiling.side_for(length)
    ends = [min(start + side, length) for start in starts]
    assert starts[0] == 0
    assert ends[-1] == length
    assert all(start % tiling.align == 0 for start in starts)
    assert side <= tiling.tile
    assert all(end - start >= tiling.overlap for end, start in zip(ends[:-1], starts[1:], strict=True))
    assert all(later > earlier for earlier, later in itertools.pairwise(ends))  # no tile in vain


@pytest.mark.parametrize(("scale", "tile"), [(4, 544), (8, 272)])
def test_a_network_that_sees_nearby_tokens_gets_large_tiles_and_any_other_those_of_its_training(scale, tile):
    card = load_checkpoint(default_checkpoint("clinical")).card
    assert card.denoiser.sees_nearby_only
    assert UpscaleOptions(scale=scale).tiling_for(card) == HaloTiling(tile, 64 // scale)
    trained = card.denoiser.trained_size * DOWNSAMPLING // scale
    assert UpscaleOptions(scale=scale, fusion="gaussian").tiling_for(card) == Tiling.of(trained)
    far = replace(card, denoiser=replace(card.denoiser, reach=0))
    assert UpscaleOptions(scale=scale).tiling_for(far) == HaloTiling(trained, 64 // scale, OVERLAP)
    wide = replace(card, denoiser=replace(card.denoiser, window=32))
    assert UpscaleOptions(scale=scale).tiling_for(wide) == HaloTiling(512 * 4 // scale, 256 // scale)


@pytest.mark.parametrize(("scale", "count", "most"), [(4, 1, 1.0), (8, 4, 1.13)])
def test_a_clinical_slice_needs_little_more_than_its_own_pixels(scale, count, most):
    tiling = UpscaleOptions(scale=scale).tiling_for(load_checkpoint(default_checkpoint("clinical")).card)
    regions = list(tiling.regions(512, 512))
    pixels = sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in regions)
    assert len(regions) == count
    assert pixels <= most * 512**2


@pytest.mark.parametrize("size", [(60, 75), (65, 130)])
def test_tiles_cut_from_one_image_are_fused_to_that_image(size):
    image = torch.randn(1, 2 * size[0], 2 * size[1], generator=torch.Generator().manual_seed(0)).double()
    fusion = TileFusion(tuple(image.shape), partial(halo_profile, scale=2, overlap=HALO_OVERLAP))
    for rows, columns in HaloTiling(64, 8).regions(*size):
        tile = image[:, 2 * rows.start : 2 * rows.stop, 2 * columns.start : 2 * columns.stop]
        fusion.add(tile, 2 * rows.start, 2 * columns.start)
    torch.testing.assert_close(fusion.result(), image)


@pytest.mark.parametrize("after", [64, 36, 33])
def test_what_a_tile_says_on_its_halo_does_not_count_where_another_has_a_say(after):
    """However short the other is: the last tile of a slice may be little longer than what it shares."""
    scale, side = 4, 64
    profile = partial(halo_profile, scale=scale, overlap=HALO_OVERLAP)
    fusion = TileFusion((1, side * scale, (side + after - HALO_OVERLAP) * scale), profile)
    first = torch.zeros(1, side * scale, side * scale)
    first[..., -HALO_OVERLAP // 4 * scale :] = 1000.0  # it misses its surroundings there
    fusion.add(first, 0, 0)
    fusion.add(torch.zeros(1, side * scale, after * scale), 0, (side - HALO_OVERLAP) * scale)
    assert fusion.result().abs().max() < 1e-3


def test_two_tiles_fade_linearly_into_one_another():
    scale, side = 4, 64
    profile = partial(halo_profile, scale=scale, overlap=HALO_OVERLAP)
    fusion = TileFusion((1, side * scale, (2 * side - HALO_OVERLAP) * scale), profile)
    ones = torch.ones(1, side * scale, side * scale)
    fusion.add(ones, 0, 0)
    fusion.add(2 * ones, 0, (side - HALO_OVERLAP) * scale)
    steps = fusion.result()[0, side * 2].diff()
    assert (steps >= -1e-12).all()
    assert steps.max() < 1.05 / (HALO_OVERLAP / 2 * scale)


@pytest.mark.parametrize("wrong", [(56, 8), (100, 16)])
def test_sides_that_do_not_serve_are_refused(wrong):
    with pytest.raises(ConfigError, match="multiple of"):
        HaloTiling(*wrong)


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "side", "tile"), [(4, 160, 64), (4, 176, 96), (8, 112, 64)])
def test_the_clinical_answer_is_the_same_to_a_fifth_of_a_hu_whatever_the_tile(scale, side, tile):
    """A network whose upstream attends to a whole tile is 0.4 to 0.75 HU off on such slices, and 10 to 16 on patients."""
    draw = keyed("tiles")
    organs = SyntheticConfig(organs=1, low_contrast=0, vessels=0, steps=0)
    hu = np.rint(synthetic_slice(organs, side, scale, draw) + draw.normal(0, 10, (side, side))).clip(-1024, 3071)
    source = CtSlice(hu.astype(np.float32), np.zeros(hu.shape, dtype=bool), 0.0)
    upscalers = [load_upscaler(None, UpscaleOptions(scale=scale, tile=one), device="cpu") for one in (side, tile)]
    assert [len(upscaler.plan(source, "-").tiles) > 1 for upscaler in upscalers] == [False, True]
    whole, cut = (upscaler.upscale_slice(source, "-").hu for upscaler in upscalers)
    assert np.sqrt(np.mean(np.square(whole - cut))) < 0.2
