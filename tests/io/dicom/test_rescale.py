"""Stored values and Hounsfield units: bits, signs, padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdm_med.io.dicom.rescale import PixelFormat, in_ranges, overwrite_blocks


@st.composite
def formats(draw: st.DrawFn) -> PixelFormat:
    return PixelFormat(
        bits_stored=draw(st.integers(8, 16)),
        signed=draw(st.booleans()),
        slope=draw(st.sampled_from([1.0, 0.5, 2.0, -1.0, 0.1])),
        intercept=draw(st.sampled_from([0.0, -1024.0, -1000.5])),
    )


@given(pixel_format=formats())
def test_every_stored_value_survives_the_way_to_hu_and_back(pixel_format):
    low, high = pixel_format.limits
    assert high - low + 1 == 2**pixel_format.bits_stored
    stored = np.arange(low, high + 1, dtype=np.int32)
    np.testing.assert_array_equal(pixel_format.to_stored(pixel_format.to_hu(stored)), stored)


@given(pixel_format=formats(), hu=st.floats(-1e9, 1e9, width=32))
def test_hu_beyond_the_bits_are_clamped_never_wrapped(pixel_format, hu):
    low, high = pixel_format.limits
    stored = int(pixel_format.to_stored(np.array([hu], np.float32))[0])
    exact = (hu - pixel_format.intercept) / pixel_format.slope
    assert low <= stored <= high
    assert abs(stored - min(max(exact, low), high)) <= 0.5


@given(
    ends=st.tuples(st.integers(0, 255), st.integers(0, 255)).map(sorted).filter(lambda pair: pair != [0, 255]),
    hu=st.floats(-50, 300, width=32),
)
def test_image_pixels_take_the_nearest_value_that_is_no_padding(ends, hu):
    first, last = ends
    stored = int(PixelFormat(8, False, 1.0, 0.0).to_stored(np.array([hu], np.float32), ((first, last),))[0])
    allowed = [value for value in range(256) if not first <= value <= last]
    assert stored in allowed
    assert abs(stored - hu) <= min(abs(value - hu) for value in allowed) + 0.5


def test_the_way_back_from_hu_does_not_depend_on_where_a_pixel_lies():
    pixel_format = PixelFormat(12, False, 0.5, -1024.0, padding=(100, 120))
    hu = np.random.default_rng(0).uniform(-2000, 3000, (70, 1000)).astype(np.float32)  # more than one block
    whole = pixel_format.to_stored(hu, ((100, 120),))
    rows = [pixel_format.to_stored(row, ((100, 120),)) for row in hu]
    np.testing.assert_array_equal(whole, np.stack(rows))


def test_marked_pixels_fill_their_blocks_and_nothing_else():
    coarse = np.arange(6, dtype=np.int32).reshape(2, 3)
    where = np.array([[True, False, False], [False, True, True]])
    fine = np.full((4, 6), -1, np.int32)
    overwrite_blocks(fine, coarse, where)
    np.testing.assert_array_equal(fine, np.where(where.repeat(2, 0).repeat(2, 1), coarse.repeat(2, 0).repeat(2, 1), -1))


def test_a_constant_region_far_below_air_is_padding_without_being_declared():
    stored = np.full((20, 20), 40, np.int32)
    stored[:2] = -3024
    stored[5, 5] = -3023
    ranges = PixelFormat(16, True, 1.0, 0.0).padding_ranges(stored)
    assert ranges == ((-3024, -3024),)
    assert in_ranges(stored, ranges).sum() == 40


@pytest.mark.parametrize("lowest", [-1024, -1499])
def test_air_is_not_padding(lowest):
    stored = np.full((20, 20), lowest, np.int32)
    assert PixelFormat(16, True, 1.0, 0.0).padding_ranges(stored) == ()


def test_a_single_low_pixel_is_noise_and_no_padding():
    stored = np.zeros((100, 100), np.int32)
    stored[3, 3] = -2000
    assert PixelFormat(16, True, 1.0, 0.0).padding_ranges(stored) == ()


def test_padding_ranges_that_touch_are_one():
    stored = np.full((10, 10), -2001, np.int32)
    assert PixelFormat(16, True, 1.0, 0.0, padding=(-2000, -1990)).padding_ranges(stored) == ((-2001, -1990),)
