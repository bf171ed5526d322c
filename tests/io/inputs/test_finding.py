"""Which files are the series: other series, other kinds, copies, no names to go by, archives."""

from __future__ import annotations

import shutil
import zipfile

import pydicom
import pytest
from pydicom.data import get_testdata_file

from qdm_med.io.read import read_volume
from tests.io.nifti_files import save, values

LOCALIZER = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
CLASSES = {
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "RTSTRUCT": "1.2.840.10008.5.1.4.1.1.481.3",
    "SR": "1.2.840.10008.5.1.4.1.1.88.11",
    "OT": "1.2.840.10008.5.1.4.1.1.7",
}


def kind(modality):
    def edit(ds, index):
        ds.SOPClassUID, ds.Modality = CLASSES[modality], modality
        if modality in ("RTSTRUCT", "SR"):
            del ds.PixelData

    return edit


def localizer(ds, index):
    ds.ImageType, ds.SOPInstanceUID, ds.Rows = LOCALIZER, f"1.2.3.9.{index}", 40
    ds.PixelData = 2 * ds.PixelData


def test_two_series_in_one_folder_become_two_and_either_can_be_chosen(phantom, attempt, refused, tmp_path):
    folder = phantom().write()
    phantom(series=2, slices=2).write()
    both = attempt(folder)
    assert both.code == 0
    written = {place.name: sorted(place.iterdir()) for place in both.place.iterdir()}
    assert {name: len(files) for name, files in written.items()} == {"series-1": 3, "series-2": 2}
    for name, files in written.items():
        assert {pydicom.dcmread(path).SeriesNumber for path in files} == {100 * int(name[-1]) + 4}
    for number, slices in (("1", 3), ("2", 2)):
        uid = phantom(series=int(number)).dataset(0).SeriesInstanceUID
        outcome = attempt(folder, "--series-uid", uid, out=tmp_path / f"out{number}")
        assert [each.SeriesNumber for each in outcome.slices()] == [100 * int(number) + 4] * slices
    refused(folder, "--series-uid", "1.2.3", told="no CT series with SeriesInstanceUID 1.2.3", out=tmp_path / "none")


@pytest.mark.parametrize("own", [True, False], ids=["series of its own", "the same series"])
def test_a_localizer_is_left_out_and_told(phantom, attempt, own):
    folder = phantom().write()
    phantom("in/scout", slices=1, series=5 if own else 1).write(localizer)
    outcome = attempt(folder)
    assert (outcome.code, len(outcome.slices())) == (0, 3)
    assert "left out: 1 CT localizer" in outcome.out


@pytest.mark.parametrize("modality", CLASSES)
@pytest.mark.parametrize("own", [True, False], ids=["series of its own", "the same series"])
def test_other_objects_are_left_out_and_told(phantom, attempt, modality, own):
    folder = phantom().write()
    edit = kind(modality)

    def other(ds, index):
        edit(ds, index)
        ds.SOPInstanceUID = f"1.2.3.8.{index}"

    phantom("in/other", slices=2, series=6 if own else 1).write(other)
    outcome = attempt(folder)
    assert (outcome.code, len(outcome.slices())) == (0, 3)
    assert "left out: 2 " in outcome.out


def test_junk_empty_files_and_a_dicomdir_are_left_out_and_told(phantom, succeeds):
    folder = phantom().write()
    shutil.copy(get_testdata_file("DICOMDIR", download=False), folder / "DICOMDIR")
    (folder / "junk.dcm").write_bytes(bytes(1000))
    (folder / "Thumbs.db").touch()
    succeeds(folder, told="left out: 1 DICOMDIR, 1 empty file, 1 not DICOM")


@pytest.mark.parametrize("modality", ["MR", "RTSTRUCT"])
def test_a_folder_without_ct_is_refused_and_what_is_there_is_named(phantom, refused, modality):
    refused(phantom().write(kind(modality)), told="no CT series; found 3 ")


def test_a_folder_of_localizers_is_refused(phantom, refused):
    refused(phantom(slices=1).write(localizer), told="found 1 CT localizer")


def test_an_instance_that_is_there_twice_counts_once(phantom, succeeds):
    folder = phantom().write()
    (folder / "copies").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        shutil.copy(path, folder / "copies" / f"again-{path.name}")
    succeeds(folder)


def test_two_different_instances_under_one_uid_are_refused(phantom, refused):
    folder = phantom().write()
    ds = pydicom.dcmread(sorted(folder.iterdir())[0])
    ds.ImagePositionPatient[2] += 100
    ds.save_as(folder / "other")
    refused(folder, told="different files with the SOPInstanceUID")


def test_deep_trees_without_extensions_and_with_loops_are_walked_once(phantom, attempt, tmp_path):
    folder = phantom().write()
    for depth, path in enumerate(sorted(folder.iterdir())):
        deep = folder.joinpath(*("nested " * depth).split(), "é ünï", "x" * 60)
        deep.mkdir(parents=True)
        path.rename(deep / "IMG")
    (folder / "nested" / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "dangling").symlink_to(tmp_path / "absent")
    (folder / "self").symlink_to(folder / "self")
    outcome = attempt(folder)
    assert (outcome.code, outcome.err, len(outcome.slices())) == (0, "", 3)


def test_one_file_is_a_series_of_one_slice(phantom, attempt):
    outcome = attempt(sorted(phantom().write().iterdir())[1])
    assert (outcome.code, len(outcome.slices())) == (0, 1)


def test_an_empty_folder_is_refused(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", told="no CT series; found no files")


def test_a_path_that_is_absent_is_refused(refused, tmp_path):
    refused(tmp_path / "absent", told="no such file or folder")


def packed(folder, place, names=None):
    place.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, (names or {}).get(path.name, f"study/{path.name}"))
    return place


def test_an_archive_is_read_like_the_folder_in_it_and_stays_packed(phantom, attempt, failed_rows, tmp_path):
    folder = phantom().write()
    outcome = attempt(packed(folder, tmp_path / "packed" / "ct.zip"))
    assert (outcome.code, outcome.err, len(outcome.slices())) == (0, "", 3)
    if failed_rows is not None:
        assert failed_rows(folder, outcome.place) == []


def test_an_archive_cannot_write_outside_its_temporary_folder(phantom, tmp_path):
    folder = phantom().write()
    first, second, *_ = sorted(path.name for path in folder.iterdir())
    names = {first: "../../outside", second: str(tmp_path / "absolute")}
    before = set(tmp_path.rglob("*"))
    place = packed(folder, tmp_path / "packed" / "ct.zip", names)
    assert len(read_volume(place)) == 3
    assert set(tmp_path.rglob("*")) - before == {place.parent, place}


def test_a_damaged_archive_and_one_in_a_folder_are_refused(phantom, refused, tmp_path):
    place = packed(phantom().write(), tmp_path / "packed" / "ct.zip")
    refused(place.parent, told="no CT series; found 1 zip archive (unpack it first)")
    place.write_bytes(place.read_bytes()[:-300])
    refused(place, told="zip archive cannot be unpacked")


def test_a_volume_file_in_an_archive_is_read(tmp_path):
    save(tmp_path / "head.nii.gz", values())
    with zipfile.ZipFile(tmp_path / "head.zip", "w") as archive:
        archive.write(tmp_path / "head.nii.gz", "deep/head.nii.gz")
        archive.writestr("readme.txt", "junk")
    volume = read_volume(tmp_path / "head.zip")
    assert volume.provenance.files == (tmp_path / "head.zip",)
    assert (volume.hu == read_volume(tmp_path / "head.nii.gz").hu).all()
