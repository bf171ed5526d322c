"""Series are found by content; pydicom writes the files, as an archive would."""

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from qdm_med.data.store.prepare import prepare_slices
from qdm_med.data.store.slices import SliceStore, anonymous_key
from qdm_med.data.store.sources import LeftOut, find_sources
from qdm_med.errors import DataError


def write_slice(path: Path, *, patient: str, series: str, position: float, side: int = 600, **tags) -> np.ndarray:
    """One CT slice of random anatomy, made from pydicom's example; returns its HU."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm"))
    rng = np.random.default_rng([*series.encode(), int(position * 10) + 10000])
    hu = np.kron(rng.integers(-1000, 300, (8, 8)), np.ones((side // 8, side // 8))).astype(np.int16)
    dataset.PatientID, dataset.PatientName = patient, "Doe^Jane"
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID = series, generate_uid(entropy_srcs=[series, str(position)])
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.Rows = dataset.Columns = side
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
    dataset.PixelRepresentation = 0
    dataset.PixelData = (hu + 1024).astype("<u2").tobytes()
    dataset.ImagePositionPatient = [0, 0, position]
    for name in ("PixelPaddingValue", "DataSetTrailingPadding"):
        if name in dataset:
            del dataset[name]
    for name, value in tags.items():
        setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path)
    return hu


@pytest.fixture
def archive(tmp_path):
    root = tmp_path / "archive"
    for number, position in enumerate((5.0, 0.0, 2.5)):
        write_slice(root / "deep" / f"{number}", patient="p1", series="1.2.3", position=position, SliceThickness=2.5)
    write_slice(root / "mixed" / "x.dcm", patient="p2", series="1.2.4", position=0.0, ConvolutionKernel="BONE")
    write_slice(root / "mixed" / "y.dcm", patient="p2", series="1.2.5", position=9.0)
    return root


def test_series_are_found_wherever_their_files_lie(archive):
    tree = find_sources(archive)
    assert tree.left_out == ()
    by_key = {one.series: one for one in tree.series}
    assert by_key.keys() == {anonymous_key(uid) for uid in ("1.2.3", "1.2.4", "1.2.5")}
    first = by_key[anonymous_key("1.2.3")]
    assert [path.as_posix() for path in first.files] == [f"archive/deep/{name}" for name in "120"]
    assert first.patient == anonymous_key("p1")
    assert first.slice_thickness_mm == 2.5
    assert by_key[anonymous_key("1.2.4")].kernel == "BONE"
    assert [ct_slice.position_mm for ct_slice in first.open()] == [0.0, 2.5, 5.0]


def test_the_order_of_series_does_not_depend_on_where_their_files_lie(archive, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(archive / "mixed", moved / "a")
    shutil.copytree(archive / "deep", moved / "z")
    assert [one.series for one in find_sources(moved).series] == [one.series for one in find_sources(archive).series]


def test_what_is_no_ct_is_left_out_with_its_reason(archive):
    (archive / "notes.txt").write_text("hello")
    write_slice(
        archive / "l" / "1", patient="p3", series="1.2.6", position=0.0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]
    )
    write_slice(archive / "m" / "1", patient="p3", series="1.2.7", position=0.0, RescaleSlope=0)
    (archive / "cut.dcm").write_bytes((archive / "mixed" / "x.dcm").read_bytes()[:200])
    tree = find_sources(archive)
    assert len(tree.series) == 3
    assert LeftOut("", "not DICOM", 1) in tree.left_out
    assert LeftOut("archive/l", "CT localizer", 1) in tree.left_out
    (refused,) = (one.reason for one in tree.left_out if one.where == "archive/m")
    assert refused.startswith("RescaleSlope 0")
    assert any("cut.dcm" in one.reason for one in tree.left_out)
    assert len(tree.left_out) == 4


def test_a_series_that_mixes_grids_and_frames_gives_all_its_slices(tmp_path):
    for number, side in enumerate((600, 600, 512)):
        frame = f"1.7.{number}"
        write_slice(
            tmp_path / str(number), patient="p", series="1.2.3", position=number, side=side, FrameOfReferenceUID=frame
        )
    write_slice(tmp_path / "bad", patient="p", series="1.2.3", position=7, RescaleType="OD")
    report = prepare_slices(tmp_path, tmp_path / "store")
    assert sum(report.slices.values()) == 3
    assert report.resampled == 2
    assert [(one.count, one.reason.split()[0]) for one in report.left_out] == [(1, "RescaleType")]


def test_a_file_without_patient_is_a_stranger_of_its_own_study(tmp_path):
    for number in range(2):
        write_slice(
            tmp_path / str(number), patient="", series=f"1.2.{number}", position=0.0, StudyInstanceUID=f"1.9.{number}"
        )
    assert len({one.patient for one in find_sources(tmp_path).series}) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="is no folder"):
        find_sources(tmp_path / "none")


def test_prepare_makes_references_of_dicom_and_nifti(archive, tmp_path):
    volume = np.kron(np.random.default_rng(0).integers(-1000, 300, (8, 8, 2)), np.ones((64, 64, 1))).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([-0.8, -0.8, 3.0, 1.0])), archive / "volume.nii.gz")
    labels = (volume > 0).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(labels, np.diag([-0.8, -0.8, 3.0, 1.0])), archive / "labels.nii.gz")
    report = prepare_slices(archive, tmp_path / "store", val_fraction=0.0)
    assert report.slices == {"train": 7}
    assert report.resampled == 5
    assert [one.where for one in report.left_out] == ["archive/labels.nii.gz"]
    assert "not HU" in report.left_out[0].reason
    store = SliceStore.open(tmp_path / "store")
    store.verify()
    nifti = store.indices("train")[[round(record.pixel_spacing_mm, 4) for record in store.records].index(0.8)]
    np.testing.assert_array_equal(store.hu(nifti), volume[:, :, 0].T)


def test_a_split_list_places_files(archive, tmp_path):
    listed = "file,split,source\ndeep/0,train,a\ndeep/1,train,a\ndeep/2,train,a\narchive/mixed/x.dcm,val,b\n"
    (tmp_path / "split.csv").write_text(listed)
    report = prepare_slices(archive, tmp_path / "store", split_csv=tmp_path / "split.csv")
    assert report.slices == {"train": 3, "val": 1}
    assert [(one.reason, one.count) for one in report.left_out] == [("not in the split list", 1)]
    assert {record.source for record in SliceStore.open(tmp_path / "store").records} == {"a", "b"}


def test_nothing_in_a_store_identifies_the_patient(archive, tmp_path):
    prepare_slices(archive, tmp_path / "store")
    text = b"".join(path.read_bytes() for path in (tmp_path / "store").iterdir() if path.suffix != ".npy")
    for secret in (b"p1", b"Doe", b"1.2.3", b"archive"):
        assert secret not in text
