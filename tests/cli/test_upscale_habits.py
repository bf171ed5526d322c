"""``qdm-med upscale`` as people use it: many series, another format, a matrix of their choice, labels carried along."""

from __future__ import annotations

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from qdm_med.inference.runs.tree import places_for
from qdm_med.io.find import FoundSeries
from qdm_med.io.read import read_volume
from qdm_med.resample import area_mean
from tests.cli.lines import one_line


@pytest.fixture
def many(series, tmp_path):
    """Series 1 and 2 of two patients in folders of their own, the second with two slices, and one that is refused."""
    dataset = pydicom.dcmread(series / "slice.dcm")
    for number, place in enumerate(("a/ct", "b/ct", "c"), start=1):
        folder = tmp_path / "many" / place
        folder.mkdir(parents=True)
        dataset.SeriesInstanceUID = f"1.2.3.{number}"
        dataset.SeriesNumber, dataset.SeriesDescription = number, f"Lung {number}"
        for index in range(2 if number == 2 else 1):
            dataset.SOPInstanceUID = generate_uid(entropy_srcs=[f"{number} {index}"])
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            dataset.ImagePositionPatient[2] = 5.0 * index
            if number == 3:
                dataset.RescaleSlope = None
            dataset.save_as(folder / f"{index}.dcm")
    return tmp_path / "many"


def test_a_folder_of_series_gives_a_folder_for_each_and_says_which_it_left_out(run, many, checkpoint, tmp_path):
    out = tmp_path / "out"
    code, told, err = run("upscale", "--series", many, "--out", out, "--checkpoint", checkpoint)
    assert code == 1
    assert "left out: " in err
    assert "1 of 3 series were not super-resolved" in err
    assert "Traceback" not in err
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.dcm")} == {
        *("a/ct/00001.dcm", "b/ct/00001.dcm", "b/ct/00002.dcm")
    }
    assert "2 slices at x4" in told
    (many / "c" / "0.dcm").unlink()
    code, told, err = run("upscale", "--series", many, "--out", out, "--checkpoint", checkpoint)
    assert (code, told, err.count("is there already")) == (0, "", 2)


def test_of_several_series_none_is_left_out_for_a_rescale_type_that_the_user_says_is_hu(
    run, many, checkpoint, tmp_path
):
    (many / "c" / "0.dcm").unlink()
    path = many / "a" / "ct" / "0.dcm"
    dataset = pydicom.dcmread(path)
    dataset.RescaleType = "US"
    dataset.save_as(path)
    asked = ("upscale", "--series", many, "--out", tmp_path / "out", "--checkpoint", checkpoint, "--rescale-type-is-hu")
    code, _, err = run(*asked)
    assert (code, "left out" in err) == (0, False)
    assert (tmp_path / "out" / "a" / "ct" / "00001.dcm").exists()


def test_series_are_chosen_by_number_and_by_description(run, many, checkpoint, tmp_path):
    for name, option in (("number", ("--series-number", 2)), ("description", ("--description", "LUNG 2"))):
        out = tmp_path / name
        code, _, err = run("upscale", "--series", many, "--out", out, "--checkpoint", checkpoint, *option)
        assert (code, err) == (0, "")
        assert [pydicom.dcmread(path).SeriesNumber for path in out.iterdir()] == [204, 204]
    code, _, err = run(
        "upscale", "--series", many, "--out", tmp_path / "x", "--checkpoint", checkpoint, "--series-number", 9
    )
    assert code == 1
    assert "no series with number 9" in one_line(err)


def test_places_never_lie_within_each_other(tmp_path):
    found = [
        *(
            FoundSeries(tmp_path / place, uid)
            for place, uid in (("", "1"), ("a", "2"), ("a", "3"), ("a/b", "4"), ("c", "5"))
        ),
        FoundSeries(tmp_path / "c" / "head.nii.gz"),
    ]
    places = places_for(found, tmp_path, tmp_path / "out", 4)
    assert len(set(places)) == len(places)
    assert not any(one in other.parents for one in places[:-1] for other in places[:-1])
    assert places[-1] == tmp_path / "out" / "c" / "head-srx4.nii.gz"


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_dicom_series_becomes_a_volume_file_of_the_same_hu_at_the_same_place(
    run, series, checkpoint, tmp_path, suffix
):
    dicom, file = tmp_path / "out", tmp_path / f"out{suffix}"
    for out in (dicom, file):
        code, _, err = run("upscale", "--series", series, "--out", out, "--checkpoint", checkpoint)
        assert (code, err) == (0, "")
    expected, found = read_volume(dicom, force=True), read_volume(file, force=True, axis=2)
    assert found.slices.dtype == np.dtype("<i2")
    np.testing.assert_array_equal(found.hu, expected.hu)
    np.testing.assert_allclose(found.geometry.affine, expected.geometry.affine, atol=1e-4)


def test_a_volume_file_cannot_become_a_dicom_series(run, series, checkpoint, tmp_path):
    nibabel.save(
        nibabel.Nifti1Image(np.full((32, 40, 2), -500, np.int16), np.diag([-1, -1, 3, 1])), tmp_path / "ct.nii"
    )
    code, _, err = run(
        "upscale", "--series", tmp_path / "ct.nii", "--out", tmp_path / "out", "--checkpoint", checkpoint
    )
    assert code == 1
    assert "cannot become a DICOM series" in one_line(err)


@pytest.mark.parametrize("asked", [("--matrix", 100), ("--spacing", 0.6615 / 2.5)])
def test_a_matrix_is_the_area_mean_of_the_magnified_slice_on_the_same_field_of_view(
    run, series, checkpoint, tmp_path, asked
):
    good = ("upscale", "--series", series, "--checkpoint", checkpoint)
    assert run(*good, "--out", tmp_path / "whole.nii")[0] == 0
    assert run(*good, "--out", tmp_path / "fit", *asked)[0] == 0
    ds = pydicom.dcmread(next((tmp_path / "fit").iterdir()))
    assert (ds.Rows, ds.Columns) == (80, 100)
    assert "averaged by area to 80x100" in ds.DerivationDescription
    assert "SRx4 AI 80x100" in ds.SeriesDescription
    source = pydicom.dcmread(series / "slice.dcm")
    np.testing.assert_allclose(ds.PixelSpacing, [float(value) / 2.5 for value in source.PixelSpacing], rtol=1e-9)
    shift = np.array(ds.ImagePositionPatient, float) - np.array(source.ImagePositionPatient, float)
    np.testing.assert_allclose(shift[:2], (1 / 2.5 - 1) / 2 * np.array(source.PixelSpacing, float), atol=1e-6)
    whole = read_volume(tmp_path / "whole.nii", force=True, axis=2).hu[0]
    hu = ds.pixel_array * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    np.testing.assert_allclose(hu, area_mean(whole, (80, 100)), atol=1.01)  # both are rounded to whole HU


def test_a_matrix_takes_the_magnification_that_reaches_it_and_no_more(run, series, checkpoint, tmp_path):
    good = ("upscale", "--series", series, "--checkpoint", checkpoint)
    assert run(*good, "--out", tmp_path / "out", "--matrix", 200)[0] == 0
    assert "8x8 in-plane" in pydicom.dcmread(next((tmp_path / "out").iterdir())).DerivationDescription
    assert "at x8 averaged to 160x200, " in run(*good, "--out", tmp_path / "no", "--matrix", 200, "--dry-run")[1]
    for matrix, told in ((321, "ask for at most 320"), (39, "coarser than the source")):
        code, _, err = run(*good, "--out", tmp_path / "no", "--matrix", matrix)
        assert code == 1
        assert told in one_line(err)
    code, _, err = run(*good, "--out", tmp_path / "no", "--matrix", 100, "--spacing", 0.3)
    assert code == 1
    assert "either --matrix or --spacing" in one_line(err)


@pytest.mark.parametrize("flipped", [False, True])
def test_labels_are_carried_along_by_the_nearest_pixel(run, series, checkpoint, tmp_path, flipped):
    geometry = read_volume(series).geometry
    affine = np.diag([-1.0, -1, 1, 1]) @ geometry.affine[:, [2, 1, 0, 3]]  # (column, row, slice), RAS
    labels = np.random.default_rng(0).integers(0, 5, (40, 32, 1)).astype(np.uint8)
    if flipped:  # as converters write: rows from below, columns and rows exchanged
        turn = np.array([[0, 1, 0, 0], [-1, 0, 0, 31], [0, 0, 1, 0], [0, 0, 0, 1]], float)
        written, affine = labels[:, ::-1].transpose(1, 0, 2), affine @ turn
    else:
        written = labels
    nibabel.save(nibabel.Nifti1Image(written, affine), tmp_path / "organs.nii.gz")
    code, _, err = run(
        *("upscale", "--series", series, "--checkpoint", checkpoint, "--out", tmp_path / "out"),
        *("--also", tmp_path / "organs.nii.gz"),
    )
    assert (code, err) == (0, "")
    found = nibabel.load(tmp_path / "organs-srx4.nii.gz")
    np.testing.assert_array_equal(found.get_fdata(), written.repeat(4, 0).repeat(4, 1))
    (tmp_path / "out").rename(tmp_path / "done")
    moved = affine + np.eye(4, k=3) * 5
    nibabel.save(nibabel.Nifti1Image(written, moved), tmp_path / "moved.nii.gz")
    code, _, err = run(
        *("upscale", "--series", series, "--checkpoint", checkpoint, "--out", tmp_path / "out"),
        *("--also", tmp_path / "moved.nii.gz"),
    )
    assert code == 1
    assert "is not that of the series" in one_line(err)
