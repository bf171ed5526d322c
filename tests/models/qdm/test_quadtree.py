"""The quadtree mask, exactly the paper's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.models.qdm.quadtree import quadtree_mask


def test_every_golden_mask_is_reproduced(golden_path):
    with np.load(golden_path / "masks.npz") as file:
        outputs = [name for name in file.files if name.startswith("out_")]
        assert len(outputs) == 96
        for name in outputs:
            case, threshold, _ = name.removeprefix("out_").rsplit("_", 2)
            image, expected = torch.from_numpy(file[f"in_{case}"]), file[name]
            mask = quadtree_mask(image, expected.shape[1:], threshold=float(threshold.removeprefix("s")))
            np.testing.assert_array_equal(mask.numpy(), expected.astype(bool), err_msg=name)


def test_a_flat_image_has_no_active_leaf_and_threshold_zero_activates_all():
    flat = torch.full((1, 1, 32, 32), 0.3)
    assert not quadtree_mask(flat, (16, 16), threshold=1e-6).any()
    assert quadtree_mask(flat, (16, 16), threshold=0.0).all()


def test_a_single_step_activates_its_block_alone():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 5, 9] = 0.2
    mask = quadtree_mask(image, (8, 8), threshold=0.15)
    assert mask.nonzero().tolist() == [[0, 2, 4]]
    assert mask.float().mean().item() == pytest.approx(1 / 64)


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (17, 23)])
def test_odd_and_tiny_images_are_masked(size):
    assert quadtree_mask(torch.zeros(1, 1, *size), (9, 12), threshold=0.0).all()
