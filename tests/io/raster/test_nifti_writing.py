"""NIfTI out: edges stay, values come back, the header keeps what is still true."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdm_med.io.derivation import Derivation
from qdm_med.io.raster.nifti import NiftiWriter, read_nifti
from tests.io.nifti_files import DERIVATION, OBLIQUE, outer_corners, save, upscale, values

# Places


@st.composite
def affines(draw: st.DrawFn) -> np.ndarray:
    """Oblique, left- or right-handed, anisotropic, sheared a little."""
    angles = [draw(st.floats(-3.1, 3.1)) for _ in range(3)]
    rotation = np.eye(3)
    for axis, angle in enumerate(angles):
        turn = np.eye(3)
        first, second = [other for other in range(3) if other != axis]
        turn[[first, second, first, second], [first, second, second, first]] = [
            np.cos(angle),
            np.cos(angle),
            -np.sin(angle),
            np.sin(angle),
        ]
        rotation = rotation @ turn
    shear = np.eye(3)
    shear[1, 2] = draw(st.floats(-0.3, 0.3))
    spacing = np.diag([draw(st.floats(0.3, 1.5)), draw(st.floats(0.3, 1.5)), draw(st.floats(0.5, 6))])
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ spacing @ np.diag([draw(st.sampled_from([-1, 1])), 1, 1])
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(affine=affines(), scale=st.sampled_from([4, 8]), axis=st.sampled_from([0, 1, 2]))
def test_outer_edges_of_the_volume_stay_where_they_were(tmp_path, affine, scale, axis):
    source = save(tmp_path / "ct.nii", values(), affine)
    out = upscale(source, tmp_path / "out.nii", Derivation(scale, "ct-test", "0123"), axis=axis, overwrite=True)
    before, after = nibabel.load(source), nibabel.load(out)
    finer = [1 if each == axis else scale for each in range(3)]
    assert after.shape == tuple(np.multiply(before.shape, finer))
    repeats = before.get_fdata()
    for each, times in enumerate(finer):
        repeats = repeats.repeat(times, each)
    np.testing.assert_array_equal(after.get_fdata(), repeats)
    np.testing.assert_allclose(
        outer_corners(after.affine, after.shape), outer_corners(before.affine, before.shape), atol=1e-4
    )
    np.testing.assert_allclose(after.header.get_zooms(), np.divide(before.header.get_zooms(), finer), rtol=1e-6)


@pytest.mark.parametrize(("sform", "qform"), [(1, 0), (0, 1), (2, 4), (0, 0)])
def test_every_form_keeps_its_code_and_the_edges(tmp_path, sform, qform):
    image = nibabel.Nifti1Image(values(), None)
    image.header.set_qform(np.diag([-0.7, 0.7, 3, 1]) + np.eye(4, k=3) * 30, qform)
    image.header["sform_code"] = 0
    if sform:
        image.header.set_sform(OBLIQUE, sform)
    nibabel.save(nibabel.Nifti1Image(values(), None, image.header), tmp_path / "ct.nii")
    before = nibabel.load(tmp_path / "ct.nii")
    after = nibabel.load(upscale(tmp_path / "ct.nii", tmp_path / "out.nii"))
    assert int(after.header["qform_code"]) == qform
    assert int(after.header["sform_code"]) == sform
    np.testing.assert_allclose(
        outer_corners(after.affine, after.shape), outer_corners(before.affine, before.shape), atol=1e-4
    )
    if qform:
        corners = [outer_corners(file.get_qform(), file.shape) for file in (before, after)]
        np.testing.assert_allclose(corners[1], corners[0], atol=1e-4)


# Values and header


@pytest.mark.parametrize("name", ["out.nii", "out.nii.gz"])
@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
def test_values_come_back_in_the_order_they_went_out(tmp_path, name, dtype, endianness):
    source = tmp_path / "ct.nii"
    data = values().clip(0).astype(dtype)
    header = nibabel.Nifti1Header(endianness=endianness)
    header.set_data_dtype(dtype)
    nibabel.save(nibabel.Nifti1Image(data, OBLIQUE, header), source)
    assert nibabel.load(source).header.endianness == endianness
    volume = read_nifti(source)
    out = upscale(source, tmp_path / name)
    written = nibabel.load(out)
    assert written.get_data_dtype() == ("<f4" if "float" in dtype else "<i2")
    np.testing.assert_array_equal(written.get_fdata(), data.astype(float).repeat(4, 0).repeat(4, 1))
    again = read_nifti(out, force=True)
    np.testing.assert_array_equal(again.hu, volume.hu.repeat(4, 1).repeat(4, 2))
    np.testing.assert_allclose(again.geometry.affine, volume.geometry.upscaled_in_plane(4).affine, atol=1e-4)


def write_flat(source: Path, out: Path, hu: float) -> nibabel.Nifti1Image:
    volume = read_nifti(source)
    with NiftiWriter(volume, out, DERIVATION) as writer:
        for index in range(len(volume)):
            writer.write(index, np.full((16, 20), hu, np.float32))
        return nibabel.load(writer.commit())


def test_integers_are_rounded_and_clamped(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    for number, (hu, stored) in enumerate([(41.6, 42), (-41.6, -42), (1e6, 32767), (-1e6, -32768)]):
        assert (write_flat(source, tmp_path / f"{number}.nii", hu).get_fdata() == stored).all()


@pytest.mark.parametrize(
    ("dtype", "slope", "inter", "stored"),
    [("int16", 0.5, -1000, "float32"), ("uint16", 1, -1024, "int16"), ("int32", 0.1, 0, "float32")],
)
def test_hu_are_stored_as_integers_only_if_the_source_had_integer_hu(tmp_path, dtype, slope, inter, stored):
    source = save(tmp_path / "ct.nii", np.abs(values()).astype(dtype))
    image = nibabel.load(source)
    image.header.set_slope_inter(slope, inter)
    with source.open("r+b") as file:
        image.header.write_to(file)
    written = write_flat(source, tmp_path / "out.nii", 1234.0)
    assert written.get_data_dtype() == stored
    np.testing.assert_array_equal(written.get_fdata(), 1234)


def test_padding_is_repeated_as_nan(tmp_path):
    data = values("float32")
    data[1, 2, 0] = np.nan
    written = nibabel.load(upscale(save(tmp_path / "ct.nii", data), tmp_path / "out.nii")).get_fdata()
    np.testing.assert_array_equal(np.isnan(written), np.isnan(data).repeat(4, 0).repeat(4, 1))


def test_the_header_keeps_what_is_still_true(tmp_path):
    source = save(tmp_path / "ct.nii", values(), cal_max=300, descrip=b"before", aux_file=b"lut")
    header = nibabel.load(upscale(source, tmp_path / "out.nii")).header
    assert header.get_xyzt_units() == ("mm", "sec")
    assert header["cal_max"] == 300
    assert header["aux_file"] == b"lut"
    assert bytes(header["descrip"].tobytes()).startswith(DERIVATION.description()[:79].encode())


def test_extensions_are_not_copied(tmp_path):
    image = nibabel.Nifti1Image(values(), OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"anybody's name"))
    nibabel.save(image, tmp_path / "ct.nii")
    out = upscale(tmp_path / "ct.nii", tmp_path / "out.nii")
    assert b"anybody" not in out.read_bytes()
    (extension,) = nibabel.load(out).header.extensions
    assert extension.get_content().rstrip(b"\0") == DERIVATION.description().encode()


def test_nifti_2_stays_nifti_2(tmp_path):
    nibabel.save(nibabel.Nifti2Image(values(), OBLIQUE), tmp_path / "ct.nii")
    written = nibabel.load(upscale(tmp_path / "ct.nii", tmp_path / "out.nii"))
    assert isinstance(written, nibabel.Nifti2Image)
    np.testing.assert_array_equal(written.get_fdata(), values().repeat(4, 0).repeat(4, 1))
