"""Multiply-accumulates: the paper's figures, sums by hand, and the same count however it is run."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from qdm_med.evaluation.measures.cost import count_macs, step_cost
from qdm_med.models.qdm.config import PRESETS


def leaves(columns: int, side: int = 64) -> torch.Tensor:
    """Leaves of which the first columns are active."""
    mask = torch.zeros(1, side, side, dtype=torch.bool)
    mask[..., :columns] = True
    return mask


def test_products_convolutions_and_attention_by_hand():
    rows, weight = torch.zeros(5, 7), torch.zeros(7, 11)
    assert count_macs(lambda: rows @ weight)[1] == 5 * 7 * 11
    image, kernel = torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3)
    assert count_macs(lambda: F.conv2d(image, kernel, padding=1))[1] == 8 * 8 * 4 * 3 * 9
    query, key = torch.zeros(2, 3, 10, 16), torch.zeros(2, 3, 20, 16)
    assert count_macs(lambda: F.scaled_dot_product_attention(query, key, key))[1] == 2 * 2 * 3 * 10 * 20 * 16
    result, none = count_macs(lambda: rows + 1)
    assert (none, float(result.sum())) == (0, 35.0)


@pytest.mark.parametrize(("preset", "dense", "upstream"), [("s", 89.4, 3.1), ("b", 344.6, 11.6), ("l", 1213.3, 40.5)])
def test_a_dense_step_costs_what_was_counted_on_the_released_network(preset, dense, upstream):
    config = PRESETS[preset]
    full, none = step_cost(config, leaves(64)), step_cost(config, leaves(0))
    assert full.macs / 1e9 == pytest.approx(dense, rel=2e-3)
    assert none.macs / 1e9 == pytest.approx(upstream, rel=1e-2)
    assert (full.windows, full.windows_in_all, full.leaf_density) == (64, 64, 1.0)
    assert (none.windows, none.leaf_density) == (0, 0.0)


def test_the_largest_model_costs_18_2_tera_and_18_2_giga_a_window_and_step():
    config = PRESETS["l"]
    full, half = step_cost(config, leaves(64)), step_cost(config, leaves(32))
    assert 15 * full.macs / 1e12 == pytest.approx(18.2, abs=0.05)
    assert (full.macs - half.macs) / (full.windows - half.windows) / 1e9 == pytest.approx(18.2, abs=0.05)
    # A window is computed when any of its leaves is active: one leaf costs nearly as much as 64. What lies behind the last
    # attention is left out for the other 63: one twelfth of the blocks, but for its attention.
    sparse = leaves(0)
    sparse[:, ::8, ::8] = True
    saved = 1 - step_cost(config, sparse).macs / full.macs
    assert 0.8 / 12 < saved < 1 / 12


def test_in_leaf_mode_cost_follows_the_leaves():
    config = PRESETS["t"]
    full, half, none = (step_cost(config, leaves(columns)) for columns in (64, 32, 0))
    striped = leaves(0)
    striped[..., ::2] = True
    every_second = step_cost(config, striped)
    assert every_second.windows == 64
    hidden, context = config.hidden, 256
    linear = 4 * hidden**2 + 8 * hidden**2 + 2 * hidden**2 + 8 * hidden**2  # QKV and out, MLP, Q and out, MLP
    attention = 2 * context * hidden
    a_leaf = config.depth * (linear + attention) + hidden * 4 * config.trunk_channels
    for one in (half, every_second):
        assert (full.macs - one.macs) / 2048 == pytest.approx(a_leaf, rel=0.15)
    assert none.macs < half.macs < full.macs


def test_counting_leaves_the_callers_random_numbers_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    step_cost(PRESETS["t"], leaves(8, side=16))
    assert torch.equal(torch.rand(3), expected)


def test_what_is_done_once_a_slice_is_no_part_of_a_step():
    without = replace(PRESETS["t"], noise_everywhere=False, source_channels=0, source_blocks=0)
    assert step_cost(PRESETS["t"], leaves(8)).macs == step_cost(without, leaves(8)).macs
