"""Volume files as strangers write them: read rightly, or refused by the value that is wrong."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.raster.itk import ItkWriter, read_itk
from qdm_med.io.raster.nifti import read_nifti
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
from tests.io.nifti_files import save, upscale

DERIVATION = Derivation(4, "ct-test", "0123456789abcdef", (("seed", "0"),))
FINE = np.diag([-0.7, -0.7, 2.5, 1.0])
STRETCHED = struct.pack("<3f", 0.0, 0.0, 1 + 3e-6)


def body(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(-1000, 1000, shape).astype(np.int16)


def magnified(source: Path, out: Path, **reading: object) -> Path:
    volume = read_volume(source, **reading)
    with open_writer(volume, out, DERIVATION) as writer:
        for index in range(len(volume)):
            writer.write(index, volume.slices[index].hu.repeat(4, 0).repeat(4, 1))
        return writer.commit()


def long_quaternion(path: Path, *, sform: bool) -> Path:
    """A quaternion of length 1 + 3e-6, a turn by 180 degrees about z, as some writers round it."""
    save(path, body(6, 5, 2), FINE, qform_code=1, quatern_d=1.0)
    raw = bytearray(path.read_bytes())
    raw[256:268] = STRETCHED
    if not sform:
        raw[254:256] = struct.pack("<h", 0)
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize(("sform", "told"), [(True, "sform is used"), (False, "normalised")])
def test_a_quaternion_that_is_too_long_is_no_obstacle(tmp_path, sform, told):
    source = long_quaternion(tmp_path / "ct.nii", sform=sform)
    volume = read_nifti(source)
    np.testing.assert_allclose(volume.geometry.affine[:3, :3], [[0, 0, 0.7], [0, 0.7, 0], [2.5, 0, 0]], atol=1e-6)
    assert [warning for warning in volume.provenance.warnings if told in warning and "1.000003" in warning]
    after = nibabel.load(upscale(source, tmp_path / "out.nii"))
    np.testing.assert_allclose(after.affine[:3, :3], np.diag([-0.175, -0.175, 2.5]), atol=1e-6)
    np.testing.assert_allclose(after.get_qform()[:3, :3], np.diag([-0.175, -0.175, 2.5]), atol=1e-6)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("padding", [-(2**31), 2**31 - 1, 65535])
def test_padding_beyond_16_bits_comes_back_exactly(tmp_path, suffix, padding):
    data = body(4, 6, 5).astype(np.int32)
    data[:, :2] = padding
    sitk.WriteImage(sitk.GetImageFromArray(data), str(tmp_path / f"ct{suffix}"))
    volume = read_volume(tmp_path / f"ct{suffix}", axis=2)
    np.testing.assert_array_equal(volume.slices[0].padding, data[0] == padding)
    out = magnified(tmp_path / f"ct{suffix}", tmp_path / f"out{suffix}", axis=2)
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(out)))
    assert written.dtype == np.int32
    np.testing.assert_array_equal(written, data.repeat(4, 1).repeat(4, 2))


def test_integers_beyond_32_bits_are_refused_by_value(tmp_path):
    data = body(6, 5, 2).astype(np.int64)
    data[0, 0, 1] = 2**40
    sitk.WriteImage(sitk.GetImageFromArray(data), str(tmp_path / "ct.mha"))
    with pytest.raises(SeriesError, match="1099511627776"):
        read_itk(tmp_path / "ct.mha")


def sagittal_first() -> tuple[np.ndarray, np.ndarray]:
    """Fourteen axial slices along the first axis of the file, 2.5 mm apart."""
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 2.5, -0.7, -0.7, 1
    return body(14, 6, 8), affine


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
def test_slices_are_found_on_whatever_axis_they_lie(tmp_path, suffix, axis):
    data, affine = sagittal_first()
    order = [(0, 1, 2), (1, 0, 2), (1, 2, 0)][axis]  # the axes of `data` in the file
    nibabel.save(nibabel.Nifti1Image(data.transpose(order), affine[:, [*order, 3]]), tmp_path / "ct.nii")
    source = tmp_path / f"ct{suffix}"
    if suffix != ".nii":
        sitk.WriteImage(sitk.ReadImage(str(tmp_path / "ct.nii")), str(source))
    volume = read_volume(source)
    assert sorted(volume.geometry.shape[1:]) == [6, 8]
    assert len(volume) == 14
    told = [line for line in volume.provenance.warnings if f"axis {axis}" in line and "--axis" in line]
    assert bool(told) == (axis != 2)
    for index in (0, 13):
        plane = volume.slices[index].hu
        np.testing.assert_array_equal(np.sort(plane.ravel()), np.sort(data[index].ravel()))
        corner = (volume.geometry.affine @ [index, 0, 0, 1])[:3]
        np.testing.assert_allclose(corner, [0, 0, 2.5 * index], atol=1e-6)
    out = magnified(source, tmp_path / f"out{suffix}")
    expected = data.repeat(4, 1).repeat(4, 2).transpose(order)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(out))).T, expected)


def test_of_equal_spacings_the_axis_along_the_patient_counts_slices(tmp_path):
    affine = np.array([[0, 0, 1.0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    path = save(tmp_path / "ct.nii", body(6, 9, 7), affine)
    assert read_nifti(path).geometry.shape == (9, 7, 6)
    assert read_nifti(path, axis=2).geometry.shape == (7, 9, 6)
    assert read_nifti(path, axis=0).geometry.shape == (6, 7, 9)
    with pytest.raises(SeriesError, match="--axis 3"):
        read_nifti(path, axis=3)


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_the_noise_of_a_slice_is_the_same_when_others_are_cut_off(tmp_path, suffix):
    data = body(5, 4, 6)
    affine = FINE + np.eye(4, k=3) * [[-103.4], [-77.7], [0], [0]]
    keys = []
    for name, first in (("whole", 0), ("end", 0), ("start", 2)):
        cut = data[:, :, first:] if name != "end" else data[:, :, :3]
        moved = affine.copy()
        moved[:3, 3] += affine[:3, 2] * first
        nibabel.save(nibabel.Nifti1Image(cut, moved), tmp_path / f"{name}.nii")
        if suffix != ".nii":
            sitk.WriteImage(sitk.ReadImage(str(tmp_path / f"{name}.nii")), str(tmp_path / f"{name}{suffix}"))
        volume = read_volume(tmp_path / f"{name}{suffix}")
        keys.append((volume.provenance.series_key, round(volume.slices[2 - first].position_mm, 3)))
    assert keys[0] == keys[1] == keys[2]
    turned = nibabel.Nifti1Image(data, affine @ np.diag([1, 1.01, 1, 1]))
    nibabel.save(turned, tmp_path / "turned.nii")
    assert read_nifti(tmp_path / "turned.nii").provenance.series_key != keys[0][0]


@pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii"])
def test_a_fourth_axis_of_length_one_is_no_obstacle_in_any_format(tmp_path, suffix):
    data = body(3, 6, 5)
    image = sitk.JoinSeries([sitk.GetImageFromArray(data)])
    sitk.WriteImage(image, str(tmp_path / f"ct{suffix}"))
    np.testing.assert_array_equal(read_volume(tmp_path / f"ct{suffix}", axis=2).hu, data)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz"])
def test_a_suffix_that_lies_about_gzip_is_refused_with_the_right_name(tmp_path, name):
    honest = save(tmp_path / name, body(6, 5, 2))
    lying = tmp_path / ("lying.nii.gz" if name == "ct.nii" else "lying.nii")
    shutil.copy(honest, lying)
    with pytest.raises(SeriesError, match=r"gzip file; rename it to lying\.nii"):
        read_nifti(lying)


def test_an_encoding_that_cannot_be_read_is_named(tmp_path):
    sitk.WriteImage(sitk.GetImageFromArray(body(2, 6, 5)), str(tmp_path / "ct.nrrd"))
    content = (tmp_path / "ct.nrrd").read_bytes()
    (tmp_path / "packed.nrrd").write_bytes(content.replace(b"encoding: raw", b"encoding: bzip2"))
    with pytest.raises(SeriesError, match="encoding bzip2"):
        read_itk(tmp_path / "packed.nrrd")


@pytest.mark.parametrize(
    ("suffix", "line", "wrong"),
    [
        (".mha", b"ElementSpacing = 1 1 1", b"ElementSpacing = 0,7 0,7 2,5"),
        (".nrrd", b"(0,0,1)", b"(0,0,0,0,2,5)"),
    ],
)
def test_decimal_commas_are_refused_by_value(tmp_path, suffix, line, wrong):
    sitk.WriteImage(sitk.GetImageFromArray(body(2, 6, 5)), str(tmp_path / f"ct{suffix}"))
    content = (tmp_path / f"ct{suffix}").read_bytes()
    assert line in content
    (tmp_path / f"ct{suffix}").write_bytes(content.replace(line, wrong))
    with pytest.raises(
        SeriesError, match=f"{wrong.decode().split(' = ')[-1][-5:-1]}.*decimal commas".replace("(", r"\(")
    ):
        read_itk(tmp_path / f"ct{suffix}")


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
@pytest.mark.parametrize("compress", [False, True])
def test_a_name_that_is_not_utf_8_is_read_like_any_other(tmp_path, suffix, compress):
    data = body(2, 6, 5)
    sitk.WriteImage(sitk.GetImageFromArray(data), str(tmp_path / f"ct{suffix}"), compress)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xe9" + suffix.encode()))
    shutil.copy(tmp_path / f"ct{suffix}", odd)
    volume = read_itk(odd)
    np.testing.assert_array_equal(volume.hu, data)
    with ItkWriter(volume, tmp_path / "out.mha", DERIVATION) as writer:
        for index in range(2):
            writer.write(index, data[index].astype(np.float32).repeat(4, 0).repeat(4, 1))
        writer.commit()


def test_a_name_that_is_not_utf_8_with_voxels_elsewhere_is_refused(tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/f\xe9.mhd"))
    odd.write_bytes(b"ObjectType = Image\nNDims = 3\nElementDataFile = f.raw\n")
    with pytest.raises(SeriesError, match="not UTF-8; rename it"):
        read_itk(odd)
