"""What a slice asks for: the patient is found, the table and the air are not refined, and every pixel is answered for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.inference.consistency import agree_with_source
from qdm_med.inference.fusion import fade_in
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import SlicePlanner
from qdm_med.inference.source.anatomy import anatomy_mask
from qdm_med.inference.tiling import Tiling
from qdm_med.inference.upscaler import Upscaler
from qdm_med.intensity import CompandedRange
from qdm_med.models.qdm.config import PRESETS
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.models.qdm.quadtree import AdaptiveQuadtree, PaperQuadtree
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")


def patient(side=128, *, noise=0.0, centre=(0.45, 0.5), seed=0):
    """Chest-like phantom: an ellipse of soft tissue with two lungs and a spine, over a thin table."""
    row, column = np.mgrid[:side, :side] / side
    hu = np.full((side, side), -1000.0)

    def fill(y, x, height, width, value):
        hu[((row - y) / height) ** 2 + ((column - x) / width) ** 2 < 1] = value

    fill(*centre, 0.28, 0.38, 40.0)
    fill(centre[0] - 0.02, centre[1] - 0.17, 0.17, 0.13, -850.0)
    fill(centre[0] - 0.02, centre[1] + 0.17, 0.17, 0.13, -850.0)
    fill(centre[0] + 0.17, centre[1], 0.05, 0.05, 700.0)
    hu[int(0.86 * side) : int(0.86 * side) + max(1, side // 64), side // 8 : -side // 8] = -100.0
    hu += noise * np.random.default_rng(seed).standard_normal(hu.shape)
    return hu.astype(np.float32)


def ct(hu, padding=None):
    return CtSlice(hu, np.zeros(hu.shape, bool) if padding is None else padding, 0.0)


def planner(quadtree, *, scale=4, tile=128):
    return SlicePlanner(CompandedRange(), quadtree, Tiling.of(tile), scale, PRESETS["t"])


@pytest.mark.parametrize("side", [64, 128, 512])
def test_the_patient_is_found_with_lungs_and_without_table_or_air(side):
    hu = patient(side, noise=15)
    mask = anatomy_mask(hu, np.zeros(hu.shape, bool))
    assert mask[int(0.43 * side), int(0.33 * side)]  # lung
    assert mask[int(0.62 * side), side // 2]  # spine
    assert not mask[int(0.86 * side), side // 2]  # table
    assert not mask[:3].any()
    assert not mask[-3:].any()


def test_a_lung_that_a_zoomed_image_cuts_is_anatomy_and_air_at_the_border_is_not():
    lung = np.full((64, 64), -850.0, dtype=np.float32)
    lung[20:40, 20:40] = 40.0
    assert anatomy_mask(lung, np.zeros(lung.shape, bool)).all()
    assert not anatomy_mask(np.where(lung < 0, -1000.0, lung), np.zeros(lung.shape, bool))[:10].any()


def test_a_patient_that_fills_the_image_is_anatomy_up_to_the_border():
    hu = np.full((40, 60), 50.0, dtype=np.float32)
    assert anatomy_mask(hu, np.zeros(hu.shape, bool)).all()


def test_padding_is_no_anatomy_and_a_slice_of_air_has_none():
    hu = np.full((32, 32), 50.0, dtype=np.float32)
    padding = np.hypot(*(np.mgrid[:32, :32] - 15.5)) > 14
    assert not (anatomy_mask(hu, padding) & padding).any()
    assert not anatomy_mask(np.full((32, 32), -1000.0, dtype=np.float32), np.zeros((32, 32), bool)).any()


@pytest.mark.parametrize("scale", [4, 8])
def test_neither_air_nor_table_nor_padding_is_ever_active(scale):
    hu = patient(128, noise=60)
    padding = np.hypot(*(np.mgrid[:128, :128] - 63.5)) > 62
    work = planner(AdaptiveQuadtree(), scale=scale, tile=512 // scale).plan(ct(hu, padding))
    assert work.leaves.any()
    assert not work.leaves[int(0.83 * 128) :].any()
    assert not work.leaves[:14].any()
    # A leaf covers up to 2 x 2 source pixels; one of these may be padding, not all.
    from scipy.ndimage import binary_erosion

    assert not (work.leaves & binary_erosion(padding, np.ones((3, 3)), border_value=1)).any()
    paper = planner(PaperQuadtree(), scale=scale, tile=512 // scale).plan(ct(hu, padding))
    assert paper.leaves[int(0.86 * 128)].any()


def test_noise_does_not_switch_leaves_on():
    quiet, noisy = (planner(AdaptiveQuadtree()).plan(ct(patient(128, noise=noise))).leaves.mean() for noise in (2, 60))
    paper = [planner(PaperQuadtree()).plan(ct(patient(128, noise=noise))).leaves.mean() for noise in (2, 60)]
    assert noisy < 1.5 * quiet
    assert paper[1] > 2.5 * paper[0]


@pytest.mark.parametrize("scale", [4, 8])
def test_the_tiles_cover_the_patient_in_whole_windows(scale):
    work = planner(AdaptiveQuadtree(), scale=scale).plan(ct(patient(128)))
    covered = np.zeros((128, 128), int)
    for tile in work.tiles:
        covered[tile.region] += 1
    rows, columns = work.box
    inside = np.zeros((128, 128), bool)
    inside[work.box] = True
    assert (covered[inside] >= 1).all()
    assert (covered[~inside] == 0).all()
    window = 64 // scale
    assert [rows.start % window, rows.stop % window, columns.start % window, columns.stop % window] == [0] * 4
    assert inside[anatomy_mask(patient(128), np.zeros((128, 128), bool))].all()
    assert inside.mean() < 0.8


def test_the_papers_quadtree_looks_at_the_whole_slice():
    work = planner(PaperQuadtree()).plan(ct(patient(128)))
    assert work.box == (slice(0, 128), slice(0, 128))
    assert work.windows_in_all == 64


def upscaler(checkpoint, **options):
    return Upscaler(checkpoint, UpscaleOptions(steps=1, **options), device=CPU)


@pytest.mark.parametrize("quadtree", ["paper", "adaptive"])
def test_an_empty_slice_goes_through_no_network(tiny_checkpoint, quadtree, monkeypatch):
    def never(*args, **kwargs):
        raise AssertionError("a network was run")

    monkeypatch.setattr("qdm_med.inference.networks.super_resolve", never)
    hu = np.full((64, 64), -1000.0, dtype=np.float32)
    result = upscaler(tiny_checkpoint, quadtree=quadtree).upscale_slice(ct(hu), "series")
    np.testing.assert_allclose(result.hu, -1000.0, atol=0.05)
    assert result.windows == 0


def test_what_is_not_refined_is_the_interpolated_source_and_there_is_no_seam(tiny_checkpoint):
    hu = patient(128, centre=(0.35, 0.45))
    model = upscaler(tiny_checkpoint, quadtree="adaptive", consistency="local")
    work = model.planner.plan(ct(hu))
    result = model.upscale_slice(ct(hu), "series").hu
    bicubic = torch.nn.functional.interpolate(
        torch.from_numpy(model.card.intensity.to_unit(hu))[None, None], scale_factor=4, mode="bicubic"
    )[0, 0].clamp(-1, 1)
    outside = np.ones(hu.shape, bool)
    rows, columns = work.box
    outside[max(0, rows.start - 12) : rows.stop + 12, max(0, columns.start - 12) : columns.stop + 12] = False
    outside = np.kron(outside, np.ones((4, 4), bool))
    assert outside.any()
    expected = agree_with_source(model.card.intensity.to_hu(bicubic.numpy()), hu, 4)
    np.testing.assert_allclose(result[outside], expected[outside], atol=1e-3)
    weight = fade_in(work.box, hu.shape, margin=4, scale=4)
    assert float(weight[:, -1].max()) < 0.05
    assert float(weight.max()) == 1.0
    assert float(weight.diff(dim=1).abs().max()) < 0.07


def test_along_the_border_of_the_slice_nothing_fades():
    assert (fade_in((slice(0, 8), slice(0, 8)), (8, 8), margin=4, scale=4) == 1).all()


def test_the_answer_beside_the_leaves_is_a_sample_only_where_the_model_has_noise_everywhere(tiny_checkpoint):
    # A ramp: flat tissue would leave no room between a source pixel's neighbours, which bound the answer.
    hu = np.tile(np.linspace(-100, 200, 64, dtype=np.float32), (64, 1))
    hu[5:12, 5:12] = 400.0
    for everywhere in (False, True):
        shape = replace(tiny_checkpoint.card.denoiser, noise_everywhere=everywhere)
        network = TwoStreamDenoiser(shape).eval()
        network.load_state_dict(tiny_checkpoint.denoiser.state_dict())
        model = replace(tiny_checkpoint, card=replace(tiny_checkpoint.card, denoiser=shape), denoiser=network)
        first, second = (upscaler(model, seed=seed).upscale_slice(ct(hu), "s").hu for seed in (0, 1))
        assert (np.abs(first - second)[128:, 128:].max() > 1) == everywhere  # the upstream sees all leaves


def test_dense_is_dense_whatever_the_quadtree(tiny_checkpoint):
    model = upscaler(tiny_checkpoint, quadtree="adaptive", threshold=0.0)
    work = model.planner.plan(ct(patient(64)))
    assert work.leaves.all()
    assert work.windows == work.windows_in_all


def test_a_tile_without_an_active_leaf_is_not_computed(tiny_checkpoint):
    hu = np.full((96, 160), 30.0, dtype=np.float32)
    hu[11:20, 11:20] = 400.0
    work = upscaler(tiny_checkpoint, tile=64).planner.plan(ct(hu))
    assert len(work.tiles) == 8 - 2
    assert len(work.active_tiles) == 1


def test_bfloat16_says_nearly_the_same(tiny_checkpoint):
    hu = patient(64, noise=10)
    full, half = (
        upscaler(tiny_checkpoint, precision=precision, seed=3).upscale_slice(ct(hu), "s").hu
        for precision in ("float32", "bfloat16")
    )
    assert np.isfinite(half).all()
    assert 0 < np.abs(full - half).mean() < 10.0


def test_the_cards_threshold_belongs_to_the_cards_quadtree(tiny_checkpoint):
    card = replace(tiny_checkpoint.card, threshold=0.07)
    assert UpscaleOptions().quadtree_for(card) == PaperQuadtree(0.07)
    assert UpscaleOptions(quadtree="adaptive").quadtree_for(card) == AdaptiveQuadtree()
    assert UpscaleOptions(quadtree="adaptive", threshold=0.3, noise_factor=2.0).quadtree_for(card) == AdaptiveQuadtree(
        0.3, 2.0
    )
    adaptive = replace(card, quadtree="adaptive")
    assert UpscaleOptions().quadtree_for(adaptive) == AdaptiveQuadtree(0.07)


@pytest.mark.parametrize(
    "wrong", [{"quadtree": "octree"}, {"precision": "float8"}, {"quadtree": "paper", "noise_factor": 1.0}]
)
def test_options_that_name_nothing_are_refused(tiny_checkpoint, wrong):
    with pytest.raises(ConfigError, match=r"octree|float8|adaptive"):
        upscaler(tiny_checkpoint, **wrong)


@pytest.mark.parametrize("quadtree", ["paper", "adaptive"])
def test_slices_that_are_computed_together_come_out_as_if_alone(tiny_checkpoint, quadtree):
    slices = [ct(patient(64, noise=20, seed=seed, centre=(0.35 + 0.05 * seed, 0.5))) for seed in range(3)]
    alone = [upscaler(tiny_checkpoint, quadtree=quadtree, tile=32).upscale_slice(each, "s").hu for each in slices]
    together = upscaler(tiny_checkpoint, quadtree=quadtree, tile=32, batch_leaves=1000)
    results = together.compute([together.plan(each, "s") for each in slices])
    for result, expected in zip(results, alone, strict=True):
        np.testing.assert_allclose(result.hu, expected, atol=0.02)
