"""Geometry: where voxels lie, and that magnification moves no edge."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from qdm_med.errors import GeometryError
from qdm_med.volume import Geometry, Volume


def geometry(angles, spacing, origin, shape=(3, 7, 5)):
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles).as_matrix() * np.asarray(spacing)
    affine[:3, 3] = origin
    return Geometry(shape, affine, "1.2.3")


def outer_corners(geometry):
    rows, columns = geometry.shape[1:]
    indices = [[0, row - 0.5, column - 0.5, 1] for row in (0, rows) for column in (0, columns)]
    return np.array(indices) @ geometry.affine.T


@given(
    angles=st.tuples(*[st.floats(-3, 3)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 8)] * 3),
    origin=st.tuples(*[st.floats(-500, 500)] * 3),
    scale=st.sampled_from([1, 2, 4, 8]),
)
def test_upscaling_keeps_the_field_of_view(angles, spacing, origin, scale):
    source = geometry(angles, spacing, origin)
    fine = source.upscaled_in_plane(scale)
    np.testing.assert_allclose(outer_corners(fine), outer_corners(source), atol=1e-9)
    np.testing.assert_allclose(fine.spacing, [spacing[0], spacing[1] / scale, spacing[2] / scale])
    assert fine.frame_of_reference_uid == "1.2.3"


@pytest.mark.parametrize("affine", [np.eye(3), np.full((4, 4), np.nan)])
def test_an_affine_that_is_no_map_is_refused(affine):
    with pytest.raises(GeometryError):
        Geometry((1, 2, 2), affine)


def test_a_scale_below_one_is_refused():
    with pytest.raises(GeometryError, match="scale"):
        Geometry((1, 2, 2), np.eye(4)).upscaled_in_plane(0)


def test_a_volume_counts_its_slices_and_knows_their_places():
    hu = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    volume = Volume.from_array(hu, Geometry((2, 3, 4), np.diag([2.5, 1, 1, 1])))
    assert [ct_slice.position_mm for ct_slice in volume] == [0.0, 2.5]
    np.testing.assert_array_equal(volume.hu, hu)
    with pytest.raises(GeometryError, match="does not fit"):
        Volume.from_array(hu, Geometry((3, 3, 4), np.eye(4)))
