"""NIfTI in and out: places, values, bytes, and what an interrupted run leaves."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.nifti import NiftiWriter, read_nifti
from qdm_med.volume import Volume

SHAPE = (5, 4, 3)  # (i, j, k)
DERIVATION = Derivation(4, "ct-test", "0123456789abcdef", (("seed", "0"),))
OBLIQUE = np.array([[0.66, -0.21, 0.4, -101.3], [0.2, 0.65, -0.3, 55.5], [-0.08, 0.2, 2.4, 801.25], [0, 0, 0, 1]])


def values(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)


def save(path: Path, data: np.ndarray, affine: np.ndarray = OBLIQUE, **header: object) -> Path:
    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm", "sec")
    for name, value in header.items():
        image.header[name] = value
    nibabel.save(image, path)
    return path


def repeated(volume: Volume, index: int, scale: int = DERIVATION.scale) -> np.ndarray:
    return volume.slices[index].hu.repeat(scale, 0).repeat(scale, 1)


def upscale(source: Path, out: Path, derivation: Derivation = DERIVATION, **options: bool) -> Path:
    volume = read_nifti(source)
    with NiftiWriter(volume, out, derivation, **options) as writer:
        for index in range(len(volume)):
            if index not in writer.finished:
                writer.write(index, repeated(volume, index, derivation.scale))
        return writer.commit()


def outer_corners(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RAS places of the corners of the corner voxels, from the file's own affine."""
    ends = [(-0.5, length - 0.5) for length in shape]
    return np.array([affine @ [*corner, 1.0] for corner in itertools.product(*ends)])[:, :3]


# Reading


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
@given(affine=affines(), scale=st.sampled_from([4, 8]))
def test_outer_edges_of_the_volume_stay_where_they_were(tmp_path, affine, scale):
    source = save(tmp_path / "ct.nii", values(), affine)
    out = upscale(source, tmp_path / "out.nii", Derivation(scale, "ct-test", "0123"), overwrite=True)
    before, after = nibabel.load(source), nibabel.load(out)
    assert after.shape == (5 * scale, 4 * scale, 3)
    np.testing.assert_allclose(
        outer_corners(after.affine, after.shape), outer_corners(before.affine, before.shape), atol=1e-4
    )
    np.testing.assert_allclose(after.header.get_zooms()[:2], np.divide(before.header.get_zooms()[:2], scale), rtol=1e-6)


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


# Bytes, interruptions, refusals


def write_one_and_stop(volume: Volume, out: Path, index: int, stop: type[BaseException]) -> None:
    with NiftiWriter(volume, out, DERIVATION) as writer:
        writer.write(index, repeated(volume, index))
        raise stop


def interrupt_after_one(source: Path, out: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_one_and_stop(read_nifti(source), out, 0, KeyboardInterrupt)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_an_interrupted_run_is_resumed_to_the_same_bytes(tmp_path, suffix):
    source = save(tmp_path / "ct.nii.gz", values())
    before = source.read_bytes()
    once = upscale(source, tmp_path / f"once{suffix}").read_bytes()
    out = tmp_path / f"out{suffix}"
    volume = read_nifti(source)
    with pytest.raises(KeyboardInterrupt):
        write_one_and_stop(volume, out, 1, KeyboardInterrupt)
    assert not out.exists()
    with NiftiWriter(volume, out, DERIVATION) as writer:
        assert writer.finished == {1}
        for index in (2, 0):
            writer.write(index, repeated(volume, index))
        assert writer.commit() == out
    assert out.read_bytes() == once
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name, f"once{suffix}"])


def test_another_job_does_not_take_over_finished_slices(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    interrupt_after_one(source, tmp_path / "out.nii")
    other = Derivation(4, "other-model", "ffff")
    with NiftiWriter(read_nifti(source), tmp_path / "out.nii", other) as writer:
        assert writer.finished == frozenset()


def test_another_source_on_the_same_grid_does_not_take_over_finished_slices(tmp_path):
    interrupt_after_one(save(tmp_path / "ct.nii", values()), tmp_path / "out.nii")
    other = read_nifti(save(tmp_path / "other.nii", values() + 1))
    with NiftiWriter(other, tmp_path / "out.nii", DERIVATION) as writer:
        assert writer.finished == frozenset()


def test_a_slice_file_under_a_temporary_name_is_not_finished(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    interrupt_after_one(source, tmp_path / "out.nii")
    (raw,) = (tmp_path / ".out.nii.partial" / "slices").iterdir()
    raw.rename(raw.with_name(f"{raw.name}.tmp"))
    with NiftiWriter(read_nifti(source), tmp_path / "out.nii", DERIVATION) as writer:
        assert writer.finished == frozenset()


def test_an_error_of_ours_leaves_nothing(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    with pytest.raises(SeriesError):
        write_one_and_stop(volume, tmp_path / "out.nii", 0, SeriesError)
    assert [path.name for path in tmp_path.iterdir()] == ["ct.nii"]


def test_an_image_of_the_wrong_size_is_refused(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    writer = NiftiWriter(volume, tmp_path / "out.nii", DERIVATION)
    with pytest.raises(SeriesError, match="does not fit"), writer:
        writer.write(0, np.zeros((4, 5), np.float32))


def test_an_output_without_all_slices_is_refused(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    writer = NiftiWriter(volume, tmp_path / "out.nii", DERIVATION)
    writer.write(1, repeated(volume, 1))
    with pytest.raises(SeriesError, match="2 slices were not written"), writer:
        writer.commit()
    assert not (tmp_path / "out.nii").exists()


def test_outputs_that_cannot_be_are_refused_before_anything_is_written(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    (tmp_path / "there.nii").write_bytes(b"precious")
    volume = read_nifti(source)
    for name, complaint in [("there.nii", "exists"), ("out.mha", "must end in")]:
        with pytest.raises(SeriesError, match=complaint):
            NiftiWriter(volume, tmp_path / name, DERIVATION)
    with pytest.raises(SeriesError, match="the source itself"):
        NiftiWriter(volume, source, DERIVATION, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ct.nii", "there.nii"]
    assert (tmp_path / "there.nii").read_bytes() == b"precious"


def test_a_foreign_folder_in_the_way_is_not_emptied(tmp_path):
    volume = read_nifti(save(tmp_path / "ct.nii", values()))
    foreign = tmp_path / ".out.nii.partial"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    with (
        pytest.raises(SeriesError, match="move it away"),
        NiftiWriter(volume, tmp_path / "out.nii", DERIVATION),
    ):
        pass
    assert (foreign / "thesis.tex").read_text() == "precious"


def test_overwriting_replaces_the_file_only_at_the_end(tmp_path):
    source = save(tmp_path / "ct.nii", values())
    out = tmp_path / "out.nii"
    out.write_bytes(b"before")
    interrupt = read_nifti(source)
    with pytest.raises(KeyboardInterrupt), NiftiWriter(interrupt, out, DERIVATION, overwrite=True):
        raise KeyboardInterrupt
    assert out.read_bytes() == b"before"
    assert upscale(source, out, overwrite=True).read_bytes() == upscale(source, tmp_path / "new.nii").read_bytes()


def test_nothing_of_the_sources_name_is_kept(tmp_path):
    source = save(tmp_path / "DOE_JOHN.nii", values())
    out = tmp_path / "out.nii.gz"
    interrupt_after_one(source, out)
    state = (tmp_path / ".out.nii.gz.partial" / "job.json").read_text()
    assert "DOE" not in state + gzip.decompress(upscale(source, out).read_bytes()).decode("latin1")
