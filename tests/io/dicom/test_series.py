"""Which files make a series, in which order, and which series is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEGLSLossless, RLELossless

from qdm_med.errors import SeriesError
from qdm_med.io.read import read_volume


def change(**attributes):
    """An edit of every slice; ``None`` deletes."""

    def edit(ds, index):
        for keyword, value in attributes.items():
            if value is None:
                delattr(ds, keyword)
            else:
                setattr(ds, keyword, value)

    return edit


def only(wanted, edit):
    return lambda ds, index: edit(ds, index) if index == wanted else None


def test_slices_are_ordered_by_their_place_not_by_name_or_number(phantom):
    made = phantom(slices=5, orientation=(0, 1, 0, 0, 0, -1))
    volume = read_volume(made.write(lambda ds, index: setattr(ds, "InstanceNumber", (index * 3) % 5)))
    positions = [ct_slice.position_mm for ct_slice in volume]
    assert positions == sorted(positions)
    for index, ct_slice in enumerate(volume):
        np.testing.assert_array_equal(ct_slice.hu, made.hu(index))


def test_every_voxel_lies_where_its_own_slice_says(phantom):
    made = phantom(slices=4, orientation=(0.8, 0.6, 0.0, -0.36, 0.48, 0.8), spacing=(0.9, 0.4))
    volume = read_volume(made.write())
    for index, path in enumerate(volume.provenance.files):
        ds = pydicom.dcmread(path)
        row_direction, column_direction = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
        for row, column in [(0, 0), (3, 5), (19, 23)]:
            expected = (
                np.array(ds.ImagePositionPatient, float)
                + column * ds.PixelSpacing[1] * row_direction
                + row * ds.PixelSpacing[0] * column_direction
            )
            np.testing.assert_allclose((volume.geometry.affine @ [index, row, column, 1])[:3], expected, atol=1e-6)


def test_a_tilted_gantry_keeps_its_shear(phantom):
    volume = read_volume(phantom(slices=3, step=(0.0, 0.8, 2.5)).write())
    np.testing.assert_allclose(volume.geometry.affine[:3, 0], [0, 0.8, 2.5], atol=1e-6)
    assert any("shift" in line for line in volume.provenance.warnings)


def test_one_slice_has_the_slice_thickness_as_its_step(phantom):
    assert read_volume(phantom(slices=1).write()).geometry.spacing == (2.5, 0.75, 0.5)


def test_a_file_alone_is_a_series_of_one_slice(phantom):
    folder = phantom(slices=3).write()
    assert len(read_volume(sorted(folder.iterdir())[1])) == 1


def test_files_of_other_kinds_are_left_out_and_counted(phantom):
    folder = phantom().write()
    (folder / "junk.dcm").write_bytes(b"junk" * 100)
    (folder / "empty").touch()
    deep = folder / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "loop").symlink_to(folder)
    phantom("in/scout", slices=1, rows=30).write(change(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    phantom("in/mr", series=7, slices=2).write(change(SOPClassUID="1.2.840.10008.5.1.4.1.1.4", Modality="MR"))
    volume = read_volume(folder)
    assert len(volume) == 3
    line = next(line for line in volume.provenance.warnings if line.startswith("left out"))
    assert line == "left out: 1 CT localizer, 2 MR Image Storage, 1 empty file, 1 not DICOM"


def test_several_series_are_listed_and_one_can_be_named(phantom):
    first, second = phantom(slices=2), phantom(series=2, slices=3)
    folder = first.write()
    second.write()
    with pytest.raises(SeriesError, match=r"--series-uid: .*498\.1 \(2 slices\), .*498\.2 \(3 slices\)"):
        read_volume(folder)
    uid = second.dataset(0).SeriesInstanceUID
    volume = read_volume(folder, series_uid=uid)
    assert len(volume) == 3
    assert volume.provenance.series_key == uid


def test_the_same_instance_twice_counts_once(phantom):
    folder = phantom().write()
    shutil.copy(sorted(folder.iterdir())[0], folder / "copy")
    assert len(read_volume(folder)) == 3


def test_two_instances_under_one_uid_are_refused(phantom):
    folder = phantom().write()
    ds = pydicom.dcmread(sorted(folder.iterdir())[0])
    ds.SliceThickness = "9"
    ds.save_as(folder / "other")
    with pytest.raises(SeriesError, match="different files with the SOPInstanceUID"):
        read_volume(folder)


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (only(3, lambda ds, index: setattr(ds, "ImagePositionPatient", [-100, -80, 60])), "slices are missing"),
        (only(3, lambda ds, index: setattr(ds, "ImagePositionPatient", [-100, -80, 30])), "1 slices lie where another"),
        (change(GantryDetectorTilt="12.5"), "gantry tilt of 12.5"),
        (only(1, change(RescaleIntercept="-1000")), "rescale varies"),
        (change(LossyImageCompression="01"), "4 slices went through lossy"),
        (change(BurnedInAnnotation="YES"), "burned-in text"),
    ],
)
def test_what_a_reader_should_know_is_said(phantom, edit, told):
    volume = read_volume(phantom(slices=4).write(edit))
    assert len(volume) == 4
    assert any(told in line for line in volume.provenance.warnings)


def rgb(ds, index):
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(3 * ds.Rows * ds.Columns)


def wide(ds, index):
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31
    ds.PixelData = bytes(4 * ds.Rows * ds.Columns)


def half_the_rows(ds, index):
    ds.Rows, ds.PixelData = 10, ds.PixelData[:480]


def two_frames(ds, index):
    ds.NumberOfFrames, ds.PixelData = 2, 2 * ds.PixelData


REFUSED = {
    "PixelSpacing absent": change(PixelSpacing=None),
    "PixelSpacing 0": change(PixelSpacing=[0, 0]),
    "ImagePositionPatient is absent": change(ImagePositionPatient=None),
    "ImageOrientationPatient is absent": change(ImageOrientationPatient=None),
    "not two unit vectors": change(ImageOrientationPatient=[1, 0, 0, 1, 0, 0]),
    "RescaleSlope 1\\\\1": change(RescaleSlope=["1", "1"]),
    "RescaleSlope absent": change(RescaleSlope=None),
    "RescaleSlope 0": change(RescaleSlope="0"),
    "RescaleSlope 1e\\+300": change(RescaleSlope="1e300"),
    "RescaleIntercept 1e\\+07: these are no Hounsfield": change(RescaleIntercept="1e7"),
    "these are no millimetres": change(ImagePositionPatient=["1e300", "0", "0"]),
    "PixelSpacing 1e-05": change(PixelSpacing=["1e-5", "1"]),
    "RescaleIntercept is absent": change(RescaleIntercept=None),
    "RescaleType US": change(RescaleType="US"),
    "RGB": rgb,
    "BitsAllocated 32": wide,
    "NumberOfFrames 2": two_frames,
    "Enhanced CT Image Storage is not": change(SOPClassUID="1.2.840.10008.5.1.4.1.1.2.1"),
    "different sizes": only(1, half_the_rows),
    "2 patients": only(1, change(PatientID="another")),
    "2 Frames of Reference": only(1, change(FrameOfReferenceUID="1.2.3")),
    "no StudyInstanceUID": change(StudyInstanceUID=None),
}


@pytest.mark.parametrize("complaint", REFUSED)
def test_a_series_that_cannot_be_read_faithfully_is_refused_in_one_line(phantom, complaint):
    folder = phantom().write(REFUSED[complaint])
    with pytest.raises(SeriesError, match=complaint) as caught:
        read_volume(folder)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value).upper()


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.1", RLELossless, JPEGLSLossless, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_file_that_is_cut_short_anywhere_is_refused_by_name(phantom, syntax, share):
    folder = phantom(syntax=syntax).write()
    victim = sorted(folder.iterdir())[1]
    content = victim.read_bytes()
    victim.write_bytes(content[: int(share * len(content))])
    with pytest.raises(SeriesError, match=victim.name):
        read_volume(folder)


def three_bad_of_five(phantom, syntax=JPEGLSLossless):
    """Of five slices one has a damaged header, one no place and one half of its pixels."""
    folder = phantom(slices=5, syntax=syntax).write(only(1, change(ImagePositionPatient=None)))
    files = {pydicom.dcmread(path).InstanceNumber: path for path in folder.iterdir()}
    files[3].write_bytes(files[3].read_bytes()[:400])
    files[4].write_bytes(files[4].read_bytes()[:-200])
    return folder


def test_bad_slices_are_skipped_on_request_and_counted(phantom):
    folder = three_bad_of_five(phantom)
    with pytest.raises(SeriesError):
        read_volume(folder)
    volume = read_volume(folder, skip_bad=True)
    assert [pydicom.dcmread(path).InstanceNumber for path in volume.provenance.files] == [1, 5]
    (line,) = (line for line in volume.provenance.warnings if line.startswith("skipped"))
    assert line.startswith("skipped 3 slices or files that cannot be read, first: ")


def test_a_series_without_bad_slices_skips_none(phantom):
    folder = phantom().write()
    assert read_volume(folder, skip_bad=True).provenance == read_volume(folder).provenance


@pytest.mark.parametrize("edit", [change(RescaleSlope=None), change(PixelData=b"")])
def test_a_series_of_bad_slices_alone_is_refused(phantom, edit):
    with pytest.raises(SeriesError, match=r"RescaleSlope|pixel data"):
        read_volume(phantom().write(edit), skip_bad=True)


def test_damaged_files_alone_are_refused(phantom):
    folder = phantom().write()
    for path in folder.iterdir():
        path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(SeriesError, match=r"\(and 2 more\)"):
        read_volume(folder, skip_bad=True)


def test_a_data_set_without_preamble_is_refused_rather_than_lost(phantom):
    folder = phantom().write()
    victim = sorted(folder.iterdir())[1]
    victim.write_bytes(victim.read_bytes()[132:])
    with pytest.raises(SeriesError, match="without the preamble"):
        read_volume(folder)


@pytest.mark.parametrize("name", ["archive.zip", "absent"])
def test_what_is_no_volume_is_refused(tmp_path, name):
    if name == "archive.zip":
        (tmp_path / name).write_bytes(b"PK\3\4" + bytes(100))
    with pytest.raises(SeriesError, match=name):
        read_volume(tmp_path / name)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SeriesError, match="no CT series; found no files"):
        read_volume(tmp_path)


def test_an_output_that_would_replace_its_input_is_refused(phantom):
    folder = phantom().write()
    for out in (folder, folder.parent):
        with pytest.raises(SeriesError, match="replace its own input"):
            read_volume(folder, exclude=Path(out))
