"""DICOM series as strangers have them: frames of reference a slice, misspelt units, junk beside the CT, results in a list."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_uncertainty_writer, open_writer
from tests.io.conftest import OBLIQUE


def frame_a_slice(ds, index):
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=[f"frame {index}"])


def magnified(volume, out, derivation=None):
    """Repeat every pixel; what was taken for granted in reading is recorded as a run records it."""
    derivation = derivation or Derivation(4, "nearest", "0" * 64, (("seed", "0"),))
    with open_writer(volume, out, derivation.assuming(volume.provenance.assumptions)) as writer:
        for index in range(len(volume)):
            writer.write(index, volume.slices[index].hu.repeat(4, 0).repeat(4, 1))
        writer.commit()
    return [pydicom.dcmread(path) for path in sorted(out.iterdir())]


@pytest.mark.parametrize("step", [None, (0.0, 1.2, 2.4)], ids=["upright", "tilted gantry"])
@pytest.mark.parametrize("orientation", [(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE], ids=["axial", "oblique"])
def test_a_frame_of_reference_a_slice_is_one_where_places_agree(phantom, tmp_path, step, orientation):
    volume = read_volume(phantom(slices=4, step=step, orientation=orientation).write(frame_a_slice))
    assert [line for line in volume.provenance.warnings if line.startswith("4 Frames of Reference, one a slice")]
    assert volume.geometry.frame_of_reference_uid is None
    written = magnified(volume, tmp_path / "out")
    frames = {ds.FrameOfReferenceUID for ds in written}
    assert len(frames) == 1
    assert frames.isdisjoint({pydicom.dcmread(path).FrameOfReferenceUID for path in volume.provenance.files})
    assert all("Frames of Reference read as one 4" in ds.DerivationDescription for ds in written)


def moved(ds, index):
    frame_a_slice(ds, index)
    ds.ImagePositionPatient[0] += 3 * (index == 1)


def turned(ds, index):
    frame_a_slice(ds, index)
    ds.ImageOrientationPatient = [0, 1, 0, -1, 0, 0] if index == 1 else [1, 0, 0, 0, 1, 0]


def at_one_place(ds, index):
    frame_a_slice(ds, index)
    ds.ImagePositionPatient = [0, 0, 5 * (index > 1)]


@pytest.mark.parametrize("edit", [moved, turned, at_one_place])
def test_frames_of_reference_whose_places_do_not_agree_are_refused(phantom, edit):
    with pytest.raises(SeriesError, match="4 Frames of Reference"):
        read_volume(phantom(slices=4).write(edit))


@pytest.mark.parametrize("said", ["HOUNSFIELD UNIT", "Hounsfield", "US"])
def test_a_rescale_type_that_is_misspelt_is_read_on_request_and_mended(phantom, tmp_path, said):
    folder = phantom().write(lambda ds, index: setattr(ds, "RescaleType", said))
    with pytest.raises(SeriesError, match=f"RescaleType {said.upper()}.*--rescale-type-is-hu"):
        read_volume(folder)
    volume = read_volume(folder, rescale_type_is_hu=True)
    assert [line for line in volume.provenance.warnings if said.upper() in line and "--rescale-type-is-hu" in line]
    written = magnified(volume, tmp_path / "out")
    assert {ds.RescaleType for ds in written} == {"HU"}
    assert all(f"RescaleType read as HU {said.upper()}" in ds.DerivationDescription for ds in written)


def test_a_missing_intercept_is_added_on_request_and_written(phantom, tmp_path):
    right = read_volume(phantom("right").write())
    folder = phantom("wrong").write(lambda ds, index: setattr(ds, "RescaleIntercept", "0"))
    volume = read_volume(folder, hu_offset=-1024)
    np.testing.assert_array_equal(volume.hu, right.hu)
    written = magnified(volume, tmp_path / "out")
    for index, ds in enumerate(written):
        assert (float(ds.RescaleSlope), float(ds.RescaleIntercept)) == (1, -1024)
        hu = ds.pixel_array.astype(float) - 1024
        np.testing.assert_array_equal(hu, right.slices[index].hu.repeat(4, 0).repeat(4, 1))
        assert "HU offset -1024" in ds.DerivationDescription


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.481.3", "1.2.840.10008.5.1.4.1.1.88.11"])
def test_an_object_without_preamble_beside_the_ct_is_counted_and_left_out(phantom, tmp_path, sop_class):
    folder = phantom().write()
    other = phantom("other", slices=1, series=9).write(lambda ds, index: setattr(ds, "SOPClassUID", sop_class))
    ds = pydicom.dcmread(next(other.iterdir()))
    del ds.PixelData
    with (folder / "report").open("wb") as file:
        pydicom.dataset.Dataset(dict(ds.items())).save_as(file, implicit_vr=True, little_endian=True)
    assert not (folder / "report").read_bytes()[128:].startswith(b"DICM")
    for name in ("._hidden", ".DS_Store", "Thumbs.db"):
        (folder / name).write_bytes(b"\0\5\26\7" + bytes(300))
    (folder / "empty").touch()
    volume = read_volume(folder)
    assert len(volume) == 3
    (line,) = (line for line in volume.provenance.warnings if line.startswith("left out"))
    assert "1 empty file, 3 not DICOM" in line
    assert "Storage without preamble" in line


def test_a_ct_slice_without_preamble_is_still_named(phantom):
    folder = phantom().write()
    ds = pydicom.dcmread(next(folder.iterdir()))
    with (folder / "slice").open("wb") as file:
        pydicom.dataset.Dataset(dict(ds.items())).save_as(file, implicit_vr=True, little_endian=True)
    with pytest.raises(SeriesError, match="slice: DICOM without the preamble"):
        read_volume(folder)


def test_numbers_that_cannot_be_read_are_named(phantom):
    folder = phantom().write()
    for path in folder.iterdir():
        content = path.read_bytes()
        assert b"0.75\\0.5" in content
        path.write_bytes(content.replace(b"0.75\\0.5", b"0,75\\0,5"))
    with pytest.raises(SeriesError, match=r"PixelSpacing 0,75\\0,5"):
        read_volume(folder)


def test_results_of_other_modes_and_seeds_have_other_descriptions(phantom, tmp_path):
    volume = read_volume(phantom().write())
    told = set()
    for mode, seed in (("faithful", "0"), ("balanced", "0"), ("balanced", "7")):
        derivation = Derivation(4, "m", "0" * 64, (("mode", mode), ("seed", seed)))
        written = magnified(volume, tmp_path / f"{mode}{seed}", derivation)
        assert written[0].SeriesDescription == f"Thorax Übersicht SRx4 AI {mode} seed {seed}"
        told.add(written[0].SeriesDescription)
    assert len(told) == 3


def test_maps_of_uncertainty_keep_the_sources_description(phantom, tmp_path):
    volume = read_volume(phantom(slices=1).write())
    derivation = Derivation(4, "m", "0" * 64, (("mode", "balanced"), ("seed", "7")))
    with (
        open_writer(volume, tmp_path / "out", derivation) as series,
        open_uncertainty_writer(volume, series, derivation) as spread,
    ):
        fine = volume.slices[0].hu.repeat(4, 0).repeat(4, 1)
        series.write(0, fine)
        spread.write(0, np.abs(fine))
        place = spread.commit()
    (path,) = place.iterdir()
    assert pydicom.dcmread(path).SeriesDescription == "Thorax Übersicht SRx4 AI balanced seed 7 SD"
