"""The uncertainty of a derived series: the same grid, HU as they stand, coded as what they are, all or nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pytest
import SimpleITK
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_uncertainty_writer, open_writer
from qdm_med.volume import Geometry, Volume

DERIVATION = Derivation(4, "nearest", "0" * 64, (("samples", "3"),))
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)
VALIDATOR = shutil.which("dciodvfy", path=Path(sys.executable).parent)


def spread_of(index, shape):
    return np.random.default_rng(index).uniform(0, 90, shape).astype(np.float32)


def write_both(source, out, *, stop_after=None, **options):
    volume = read_volume(source)
    rows, columns = (4 * side for side in volume.geometry.shape[1:])
    with (
        open_writer(volume, out, DERIVATION, WriterOptions(**options)) as series,
        open_uncertainty_writer(volume, series, DERIVATION, **options) as spread,
    ):
        for index in range(len(volume)):
            series.write(index, volume.slices[index].hu.repeat(4, 0).repeat(4, 1))
            spread.write(index, spread_of(index, (rows, columns)))
            if index == stop_after:
                raise KeyboardInterrupt
        return spread.commit(), series.commit()


def test_pixels_are_the_hu_that_were_given_and_the_codes_say_what_they_are(phantom, outputs, tmp_path):
    folder, _ = write_both(phantom().write(), tmp_path / "out")
    assert folder == tmp_path / "out-uncertainty"
    maps = [highdicom.imread(path) for path in sorted(folder.iterdir())]
    assert len(maps) == 3
    for index, one in enumerate(maps):
        np.testing.assert_array_equal(one.pixel_array, spread_of(index, (80, 96)))
        assert "FloatPixelData" in one
        (mapping,) = one.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
        assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (1.0, 0.0)
        (unit,) = mapping.MeasurementUnitsCodeSequence
        assert (unit.CodeValue, unit.CodingSchemeDesignator) == ("[hnsf'U]", "UCUM")
        codes = [
            (item.ConceptNameCodeSequence[0].CodeValue, item.ConceptCodeSequence[0].CodeValue)
            for item in mapping.QuantityDefinitionSequence
        ]
        assert codes == [("246205007", "112031"), ("121401", "386136009")]
    assert len({one.SOPInstanceUID for one in maps}) == 3
    assert len({(one.SeriesInstanceUID, one.SeriesNumber, one.SeriesTime) for one in maps}) == 1


@pytest.mark.parametrize("fields", [{}, {"orientation": OBLIQUE, "spacing": (1.25, 0.3333333)}])
def test_every_map_lies_on_the_grid_of_its_image_and_names_it(phantom, outputs, tmp_path, fields):
    folder, out = write_both(phantom(**fields).write(), tmp_path / "out")
    images, maps = outputs(out), outputs(folder)
    for image, one in zip(images, maps, strict=True):
        shared, own = one.SharedFunctionalGroupsSequence[0], one.PerFrameFunctionalGroupsSequence[0]
        assert (one.Rows, one.Columns, one.NumberOfFrames) == (image.Rows, image.Columns, 1)
        assert shared.PixelMeasuresSequence[0].PixelSpacing == image.PixelSpacing
        assert "SpacingBetweenSlices" not in shared.PixelMeasuresSequence[0]
        assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == image.ImageOrientationPatient
        np.testing.assert_allclose(
            own.PlanePositionSequence[0].ImagePositionPatient, image.ImagePositionPatient, atol=1e-9
        )
        source = own.DerivationImageSequence[0].SourceImageSequence[0]
        assert source.ReferencedSOPInstanceUID == image.SOPInstanceUID
        for keyword in ("PatientName", "PatientID", "StudyInstanceUID", "FrameOfReferenceUID", "SeriesDate"):
            assert one[keyword].value == image[keyword].value
        assert one.SeriesInstanceUID != image.SeriesInstanceUID
        assert one.SeriesNumber != image.SeriesNumber
        assert (one.ContentQualification, one.SyntheticData) == ("RESEARCH", "YES")


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy of dicom3tools is not installed")
def test_an_outside_validator_finds_no_error(phantom, tmp_path):
    folder, _ = write_both(phantom().write(), tmp_path / "out")
    told = subprocess.run([VALIDATOR, folder / "00001.dcm"], capture_output=True, text=True, check=False)
    assert told.stderr.splitlines()[0] == "ParametricMap"
    assert "Error" not in told.stderr


def test_padding_and_what_a_header_lacks(phantom, outputs, tmp_path):
    def bare(ds, index):
        stored = np.frombuffer(ds.PixelData, "<u2").reshape(ds.Rows, ds.Columns).copy()
        stored[:3] = 0
        ds.PixelData, ds.PixelPaddingValue = stored.tobytes(), 0
        for keyword in ("PatientBirthDate", "ReferringPhysicianName", "StudyTime", "SliceThickness", "AccessionNumber"):
            delattr(ds, keyword)
        ds.TimezoneOffsetFromUTC, ds.RecognizableVisualFeatures = "-0330", "NO"

    folder, out = write_both(phantom().write(bare), tmp_path / "out")
    one, image = outputs(folder)[0], outputs(out)[0]
    assert not one.pixel_array[:12].any()
    assert one.pixel_array[12:].all()
    assert one.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness == 2.5  # their distance
    assert one.RecognizableVisualFeatures == "NO"
    assert (one.TimezoneOffsetFromUTC, one.ContentTime) == ("-0330", image.ContentTime)


def test_a_name_in_any_character_set_is_the_same_name(phantom, outputs, tmp_path):
    def japanese(ds, index):
        name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
        ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
        ds["PatientName"] = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, False, True)

    folder, out = write_both(phantom().write(japanese), tmp_path / "out")
    names = [str(one.PatientName) for one in (outputs(folder)[0], outputs(out)[0])]
    assert names == ["Yamada^Tarou=山田^太郎"] * 2


def test_a_run_that_is_taken_up_again_goes_on_with_both(phantom, outputs, tmp_path):
    source = phantom().write()
    with pytest.raises(KeyboardInterrupt):
        write_both(source, tmp_path / "out", stop_after=1)
    state = json.loads((tmp_path / ".out-uncertainty.partial" / "job.json").read_text())
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out-uncertainty.partial", ".out.partial", "in"]
    folder, out = write_both(source, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out", "out-uncertainty"]
    maps = outputs(folder)
    assert maps[0].SeriesInstanceUID.startswith("2.25.")
    assert maps[0].SeriesInstanceUID == f"2.25.{int(state['run'], 16)}"
    referenced = [
        one.PerFrameFunctionalGroupsSequence[0]
        .DerivationImageSequence[0]
        .SourceImageSequence[0]
        .ReferencedSOPInstanceUID
        for one in maps
    ]
    assert referenced == [image.SOPInstanceUID for image in outputs(out)]


def test_a_map_that_is_damaged_on_disk_is_met_before_anything_is_in_its_place(phantom, tmp_path):
    volume = read_volume(phantom().write())
    with (
        pytest.raises(SeriesError, match="damaged DICOM file"),
        open_writer(volume, tmp_path / "out", DERIVATION) as series,
        open_uncertainty_writer(volume, series, DERIVATION) as spread,
    ):
        for index in range(len(volume)):
            spread.write(index, spread_of(index, (80, 96)))
        next((tmp_path / ".out-uncertainty.partial" / "slices").glob("*.dcm")).write_bytes(b"rubbish")
        spread.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_maps_of_a_series_that_begins_afresh_begin_afresh(phantom, outputs, tmp_path):
    source = phantom().write()
    with pytest.raises(KeyboardInterrupt):
        write_both(source, tmp_path / "out", stop_after=1)
    shutil.rmtree(tmp_path / ".out.partial")
    volume = read_volume(source)
    with (
        open_writer(volume, tmp_path / "out", DERIVATION) as series,
        open_uncertainty_writer(volume, series, DERIVATION) as spread,
    ):
        assert spread.finished == frozenset()


def test_a_place_that_is_taken_is_one_line_and_nothing_is_written(phantom, tmp_path):
    source = phantom().write()
    taken = tmp_path / "out-uncertainty"
    taken.mkdir()
    (taken / "notes.txt").write_text("mine")
    with pytest.raises(SeriesError, match="out-uncertainty: folder is not empty"):
        write_both(source, tmp_path / "out")
    with pytest.raises(SeriesError, match=r"notes\.txt, which qdm-med did not write"):
        write_both(source, tmp_path / "out", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out-uncertainty"]


def test_a_header_that_does_not_serve_is_one_line_without_patient_data(phantom, tmp_path, monkeypatch):
    def refuse(image, *arguments, **options):
        raise ValueError(f"no map for {image.PatientName}")

    source = phantom().write()
    monkeypatch.setattr("qdm_med.io.dicom.parametric_map.ParametricMap", refuse)
    with pytest.raises(SeriesError, match="is invalid for a parametric map") as told:
        write_both(source, tmp_path / "out")
    assert "Secret" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
def test_a_volume_file_gets_a_float_file_of_its_format(tmp_path, suffix):
    hu = np.random.default_rng(0).integers(-900, 900, (2, 8, 6)).astype(np.int16)
    hu[:, 0] = -2048  # padding
    image = SimpleITK.GetImageFromArray(hu)
    image.SetSpacing((0.5, 0.75, 2.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    source = tmp_path / f"ct{suffix}"
    SimpleITK.WriteImage(image, source)
    spread, out = write_both(source, tmp_path / f"out{suffix}")
    assert spread.name == f"out-uncertainty{suffix}"
    written, series = SimpleITK.ReadImage(spread), SimpleITK.ReadImage(out)
    pixels = SimpleITK.GetArrayFromImage(written)
    assert (pixels.dtype, SimpleITK.GetArrayFromImage(series).dtype) == (np.float32, np.int16)
    np.testing.assert_array_equal(pixels[1, 4:], spread_of(1, (32, 24))[4:])
    assert not pixels[:, :4].any()
    for get in ("GetSpacing", "GetOrigin", "GetDirection"):
        np.testing.assert_allclose(getattr(written, get)(), getattr(series, get)(), atol=1e-5)
    if suffix == ".nii.gz":
        assert b"standard deviation" in nibabel.load(spread).header.extensions[0].get_content()


def test_a_volume_from_memory_has_no_format(tmp_path):
    memory = Volume.from_array(np.zeros((1, 4, 4), np.float32), Geometry((1, 4, 4), np.eye(4)))
    with pytest.raises(SeriesError, match="uncertainty of a volume from memory"):
        open_uncertainty_writer(memory, object(), DERIVATION)
