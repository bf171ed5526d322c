"""What NIfTI files say: places, values, and what is refused."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.raster.nifti import read_nifti
from tests.io.nifti_files import OBLIQUE, SHAPE, save, upscale, values


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_voxels_lie_where_nibabel_puts_them(tmp_path, name):
    path = save(tmp_path / name, values())
    volume = read_nifti(path)
    image = nibabel.load(path)
    assert volume.geometry.shape == (3, 4, 5)
    for i, j, k in [(0, 0, 0), (4, 0, 0), (0, 3, 0), (0, 0, 2), (3, 2, 1)]:
        assert volume.slices[k].hu[j, i] == image.get_fdata()[i, j, k]
        x, y, z = (image.affine @ [i, j, k, 1])[:3]
        np.testing.assert_allclose((volume.geometry.affine @ [k, j, i, 1])[:3], [-x, -y, z], atol=1e-9)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_slices_can_be_read_in_any_order(tmp_path, name):
    data = values()
    volume = read_nifti(save(tmp_path / name, data))
    for k in (2, 0, 1, 1, 2):
        np.testing.assert_array_equal(volume.slices[k].hu, data[:, :, k].T)
        assert volume.slices[k].hu.dtype == np.float32
    with pytest.raises(IndexError):
        volume.slices[3]


def test_slope_and_intercept_of_the_file_make_hu(tmp_path):
    path = save(tmp_path / "ct.nii", values())
    raw = nibabel.load(path)
    raw.header.set_slope_inter(0.5, -1000)
    with path.open("r+b") as file:
        raw.header.write_to(file)
    np.testing.assert_array_equal(read_nifti(path).hu[1], values()[:, :, 1].T * 0.5 - 1000)


def test_what_is_not_finite_is_padding(tmp_path):
    data = values("float32")
    data[1, 2, 0], data[2, 2, 0] = np.nan, np.inf
    first = read_nifti(save(tmp_path / "ct.nii", data)).slices[0]
    assert first.padding.sum() == 2
    assert first.padding[2, 1]
    assert first.padding[2, 2]
    assert (first.hu[first.padding] == -1024).all()


def test_positions_grow_by_the_distance_of_the_planes(tmp_path):
    for number, flip in enumerate((1, -1)):
        affine = OBLIQUE @ np.diag([flip, 1, 1, 1])
        volume = read_nifti(save(tmp_path / f"{number}.nii", values(), affine))
        # Volume of a voxel over the area of its face, an oracle without normals.
        face = np.sqrt(np.linalg.det(affine[:3, :2].T @ affine[:3, :2]))
        between = abs(np.linalg.det(affine[:3, :3])) / face
        np.testing.assert_allclose(np.diff([ct_slice.position_mm for ct_slice in volume]), between, rtol=1e-6)


def test_one_plane_is_a_volume_of_one_slice(tmp_path):
    data = values(shape=(5, 4))
    volume = read_nifti(save(tmp_path / "plane.nii", data, np.eye(4)))
    assert volume.geometry.shape == (1, 4, 5)
    np.testing.assert_array_equal(volume.slices[0].hu, data.T)
    assert nibabel.load(upscale(tmp_path / "plane.nii", tmp_path / "out.nii")).shape == (20, 16, 1)


def test_a_fourth_axis_of_length_one_is_no_obstacle(tmp_path):
    data = values(shape=(*SHAPE, 1))
    path = save(tmp_path / "ct.nii.gz", data)
    np.testing.assert_array_equal(read_nifti(path).hu, data[..., 0].T)
    assert nibabel.load(upscale(path, tmp_path / "out.nii.gz")).shape == (20, 16, 3)


def test_the_series_key_knows_the_grid_but_neither_name_nor_pixels(tmp_path):
    one = read_nifti(save(tmp_path / "one.nii", values())).provenance.series_key
    two = read_nifti(save(tmp_path / "two.nii", values() * 2)).provenance.series_key
    moved = read_nifti(save(tmp_path / "three.nii", values(), OBLIQUE + np.eye(4, k=3))).provenance.series_key
    assert one == two != moved
    assert one.startswith("nifti-")


def test_forms_that_disagree_are_told(tmp_path):
    agreeing = read_nifti(save(tmp_path / "agree.nii", values(), np.diag([0.7, 0.7, 2, 1]), qform_code=1))
    assert agreeing.provenance.warnings == ()
    moved = read_nifti(save(tmp_path / "moved.nii", values(), np.diag([0.7, 0.7, 2, 1]), qform_code=1, qoffset_x=2.5))
    (warning,) = moved.provenance.warnings
    assert "2.5 mm" in warning
    assert moved.geometry.affine[0, 3] == 0


def test_lengths_in_metres_become_millimetres(tmp_path):
    image = nibabel.Nifti1Image(values(), np.diag([0.0007, 0.0007, 0.002, 1]))
    image.header.set_xyzt_units("meter")
    nibabel.save(image, tmp_path / "ct.nii")
    np.testing.assert_allclose(read_nifti(tmp_path / "ct.nii").geometry.spacing, (2, 0.7, 0.7), rtol=1e-6)


def rgb() -> np.ndarray:
    return np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (np.zeros((5, 4, 3, 2), "int16"), "extract one volume"),
        (np.zeros(5, "int16"), "extract one volume"),
        (np.zeros(SHAPE, "complex64"), "real numbers"),
        (rgb(), "real numbers"),
    ],
)
def test_what_is_no_ct_volume_is_refused_by_name(tmp_path, data, complaint):
    path = save(tmp_path / "odd.nii", data)
    with pytest.raises(SeriesError, match=rf"odd\.nii.*{complaint}"):
        read_nifti(path)


def test_a_flat_affine_is_refused(tmp_path):
    path = save(tmp_path / "flat.nii", values())
    content = bytearray(path.read_bytes())
    content[280:296] = bytes(16)  # srow_x
    path.write_bytes(content)
    with pytest.raises(SeriesError, match=r"flat\.nii.*singular"):
        read_nifti(path)


def test_damaged_files_are_refused_by_name(tmp_path):
    whole = save(tmp_path / "ct.nii", values()).read_bytes()
    (tmp_path / "short.nii").write_bytes(whole[:-1])
    (tmp_path / "noise.nii").write_bytes(b"no header at all")
    (tmp_path / "noise.nii.gz").write_bytes(b"no header at all")
    for name in ("short.nii", "noise.nii", "noise.nii.gz", "absent.nii"):
        with pytest.raises(SeriesError, match=name):
            read_nifti(tmp_path / name)
    (tmp_path / "short.nii.gz").write_bytes(gzip.compress(whole)[:-20])
    with pytest.raises(SeriesError, match=r"short\.nii\.gz"):
        _ = read_nifti(tmp_path / "short.nii.gz").hu
