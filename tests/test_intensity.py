"""HU to the network's range and back."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdm_med.errors import ConfigError
from qdm_med.intensity import HU_MAX, HU_MIN, AsinhRange, CompandedRange, HuWindow

MAPPINGS = [CompandedRange(), AsinhRange(), AsinhRange(centre=0, width=300), HuWindow(40, 400), HuWindow(-600, 1500)]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=repr)
def test_every_hu_inside_the_range_comes_back(mapping):
    low, high = mapping.hu_range
    hu = np.arange(low, high + 1)
    np.testing.assert_allclose(mapping.to_hu(mapping.to_unit(hu)), hu, atol=1e-3)
    assert mapping.to_unit(np.array([low, high])).tolist() == [-1.0, 1.0]


@pytest.mark.parametrize("mapping", MAPPINGS, ids=repr)
def test_mappings_are_strictly_increasing_and_clip_outside(mapping):
    low, high = mapping.hu_range
    assert (np.diff(mapping.to_unit(np.arange(low, high + 1))) > 0).all()
    assert mapping.to_unit(np.array([low - 500, high + 500])).tolist() == [-1.0, 1.0]
    np.testing.assert_allclose(mapping.to_hu(np.array([-1.5, 1.5])), [low, high])


def test_the_companded_range_covers_ct_and_spends_most_of_it_on_soft_tissue():
    mapping = CompandedRange()
    assert mapping.hu_range == (HU_MIN, HU_MAX)
    first, last = mapping.to_unit(np.array([-200.0, 240.0]))
    assert last - first > 1.0  # more than half of [-1, 1]


@given(st.floats(-1024, 3071))
def test_the_documented_hu_worth_of_a_unit_holds(hu):
    mapping = CompandedRange()
    worth = 1648.0 if hu < -200 else 419.05 if hu < 240 else 6291.1
    step = (mapping.to_unit(np.array([hu + 0.01])) - mapping.to_unit(np.array([hu - 0.01]))).item()
    away_from_knots = min(abs(hu - knot) for knot in mapping.knots_hu) > 0.02
    if away_from_knots:
        assert 0.02 / worth == pytest.approx(step, rel=0.05, abs=2e-7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"knots_hu": (0.0, 0.0), "knots_unit": (-1.0, 1.0)},
        {"knots_hu": (0.0, 1.0), "knots_unit": (-1.0, 0.5)},
        {"knots_hu": (0.0, 1.0, 2.0), "knots_unit": (-1.0, 1.0)},
    ],
)
def test_knots_that_make_no_mapping_are_refused(wrong):
    with pytest.raises(ConfigError, match="knots"):
        CompandedRange(**wrong)


def test_a_window_without_width_is_refused():
    with pytest.raises(ConfigError, match="width"):
        HuWindow(0, 0)


@pytest.mark.parametrize("mapping", MAPPINGS, ids=repr)
@pytest.mark.parametrize("hu", [-850, -100, 40, 230.5, 300, 700, 1200, 2900])
def test_the_worth_of_a_unit_is_the_slope_of_the_mapping(mapping, hu):
    low, high = mapping.hu_range
    if not low + 1 < hu < high - 1:
        return
    rise = float(mapping.to_unit(np.array([hu + 1.0]))[0]) - float(mapping.to_unit(np.array([hu - 1.0]))[0])
    assert mapping.hu_per_unit(hu) == pytest.approx(2 / rise, rel=1e-3)


def test_the_asinh_range_has_no_knee_between_tissues():
    """Between lung, fat, soft tissue, contrast medium and bone an error keeps its size in HU within a factor of two."""
    worth = [AsinhRange().hu_per_unit(hu) for hu in (-850, -100, 40, 300, 700, 1200)]
    neighbours = [max(pair) / min(pair) for pair in itertools.pairwise(worth)]
    assert max(neighbours) < 2
    knee = CompandedRange()
    assert knee.hu_per_unit(260) / knee.hu_per_unit(230) > 15  # what it replaces


@pytest.mark.parametrize("wrong", [{"width": 0.0}, {"lowest": 10.0, "highest": 10.0}])
def test_an_asinh_range_of_nothing_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        AsinhRange(**wrong)
