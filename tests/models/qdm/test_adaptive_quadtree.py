"""The quadtree of several levels: sees every edge, tells structure from noise, covers odd borders."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qdm_med.errors import ConfigError
from qdm_med.models.conditioning import active_leaves
from qdm_med.models.qdm.adaptive_quadtree import adaptive_quadtree_mask, expected_range, noise_level
from qdm_med.models.qdm.quadtree import AdaptiveQuadtree, PaperQuadtree, quadtree_mask


def noisy(sigma, size=(128, 128), seed=0):
    return sigma * torch.randn(1, 1, *size, generator=torch.Generator().manual_seed(seed))


def edge(column, size=(32, 32), height=0.4):
    image = torch.zeros(1, 1, *size)
    image[..., column:] = height
    return image


@pytest.mark.parametrize("column", range(1, 32))
def test_an_edge_is_seen_wherever_it_lies_and_the_papers_blocks_miss_every_second(column):
    found = adaptive_quadtree_mask(edge(column), (16, 16), threshold=0.15, noise_factor=1.3)
    assert found.any(dim=2).all()
    paper = quadtree_mask(edge(column), (16, 16), threshold=0.15)
    assert bool(paper.any()) == (column % 2 == 1)


@given(rows=st.integers(1, 70), columns=st.integers(1, 70), scale=st.sampled_from([4, 8]), data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_single_pixel_that_stands_out_is_seen_on_any_grid(rows, columns, scale, data):
    row, column = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    image = torch.zeros(1, 1, rows, columns)
    image[..., row, column] = 1.0
    per_leaf = 8 // scale
    grid = (-(-rows // per_leaf), -(-columns // per_leaf))
    found = adaptive_quadtree_mask(image, grid, threshold=0.5, noise_factor=0.0)
    assert found.shape == (1, *grid)
    assert found.any() == (rows * columns > 1)


def test_noise_alone_marks_next_to_nothing_where_it_marks_most_of_the_papers_mask():
    image = noisy(0.1)
    assert quadtree_mask(image, (64, 64), threshold=0.15).float().mean() > 0.7
    assert adaptive_quadtree_mask(image, (64, 64), threshold=0.15, noise_factor=1.3).float().mean() < 0.01


def test_an_edge_well_above_the_noise_is_still_seen():
    found = adaptive_quadtree_mask(noisy(0.05) + edge(63, (128, 128), 0.8), (64, 64), threshold=0.15, noise_factor=1.3)
    assert found[..., 31].float().mean() > 0.95
    assert found.float().mean() < 0.1


EVERYWHERE = (-2.0, 2.0)


@pytest.mark.parametrize("sigma", [0.005, 0.03, 0.12])
@pytest.mark.parametrize("size", [(64, 64), (300, 200)])
def test_the_noise_of_a_smooth_image_with_an_edge_is_measured_to_a_sixth(sigma, size):
    smooth = torch.linspace(-0.6, 0.4, size[1]).expand(1, 1, *size) + edge(size[1] // 2, size)
    assert float(noise_level(smooth + noisy(sigma, size, seed=1), EVERYWHERE)) == pytest.approx(sigma, rel=1 / 6)


def test_noise_is_measured_where_it_is_asked_for():
    image = torch.full((1, 1, 64, 64), -0.7) + noisy(0.02, (64, 64))
    image[..., 32:] = noisy(0.08, (64, 32))
    assert noise_level(image, (-0.9, -0.5)).item() == pytest.approx(0.02, rel=0.2)
    assert noise_level(image, (-0.5, 1.0)).item() == pytest.approx(0.08, rel=0.2)
    assert noise_level(image, (0.9, 1.0)).item() == 0.0


def test_noisy_soft_tissue_is_left_alone_beside_quiet_lung():
    image = torch.full((1, 1, 128, 128), -0.7) + noisy(0.03)
    image[..., 64:] = 0.1 + noisy(0.12, (128, 64))
    found = adaptive_quadtree_mask(image, (64, 64), threshold=0.15, noise_factor=1.3)
    assert found[..., 31].all()
    assert found[..., :30].float().mean() < 0.01
    assert found[..., 33:].float().mean() < 0.01


def test_images_of_a_batch_are_marked_as_if_alone():
    images = torch.cat([noisy(0.02), noisy(0.1, seed=2) + edge(40, (128, 128), 0.9)])
    quadtree = AdaptiveQuadtree()
    alone = torch.cat([quadtree.leaves(image[None], (64, 64)) for image in images])
    torch.testing.assert_close(quadtree.leaves(images, (64, 64)), alone)


def test_the_expected_range_is_that_of_drawn_numbers():
    drawn = np.random.default_rng(0).standard_normal((40_000, 25))
    assert expected_range(25) == pytest.approx(np.ptp(drawn, axis=1).mean(), rel=0.01)


def test_threshold_zero_marks_everything_and_a_region_bounds_it():
    image = noisy(0.1, (32, 32))
    assert AdaptiveQuadtree(0.0).leaves(image, (16, 16)).all()
    within = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    within[..., 5, 30] = True
    assert active_leaves(image, PaperQuadtree(0.0), (16, 16), within).nonzero().tolist() == [[0, 2, 15]]


@pytest.mark.parametrize("wrong", [{"threshold": -0.1}, {"threshold": 2.1}, {"noise_factor": -1.0}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=r"threshold|noise factor"):
        AdaptiveQuadtree(**wrong)
