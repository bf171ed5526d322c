"""The header of a derived image, rule by rule (PS3.3)."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from qdm_med.io.dicom.derived_header import free_series_number
from qdm_med.io.dicom.explicit_vr import as_explicit_little_endian
from qdm_med.io.dicom.file import quiet


def text(keyword: str, vr: str, value: bytes):
    """An edit that stores bytes as they are, whatever the character set says of them."""
    element = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
    return lambda ds, index=0: ds.__setitem__(keyword, element)


def code(value: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "meaning"
    return item


def outer_corners(ds) -> np.ndarray:
    row_direction, column_direction = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    row_spacing, column_spacing = map(float, ds.PixelSpacing)
    place = np.array(ds.ImagePositionPatient, float)
    return np.array(
        [
            place + (column - 0.5) * column_spacing * row_direction + (row - 0.5) * row_spacing * column_direction
            for row in (0, ds.Rows)
            for column in (0, ds.Columns)
        ]
    )


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    scale=st.sampled_from([4, 8]),
    spacing=st.tuples(st.floats(0.05, 3), st.floats(0.05, 3)),
    turn=st.floats(-3, 3),
)
def test_outer_edges_stay_where_they_were(tmp_path_factory, phantom, magnify, outputs, scale, spacing, turn):
    cos, sin = round(float(np.cos(turn)), 8), round(float(np.sin(turn)), 8)
    spacing = tuple(round(side, 6) for side in spacing)
    made = phantom(slices=1, rows=6, columns=9, spacing=spacing, orientation=(cos, sin, 0, 0, 0, -1))
    made.folder = tmp_path_factory.mktemp("in")
    source = made.write()
    (derived,) = outputs(magnify(source, tmp_path_factory.mktemp("out") / "series", scale))
    (original,) = outputs(source)
    np.testing.assert_allclose(outer_corners(derived), outer_corners(original), atol=1e-6)
    assert (derived.Rows, derived.Columns) == (6 * scale, 9 * scale)
    assert all(len(str(number)) <= 16 for number in [*derived.PixelSpacing, *derived.ImagePositionPatient])


def test_a_derived_series_is_new_and_names_its_sources(phantom, magnify, outputs, tmp_path):
    source = phantom().write()
    originals = {str(ds.SOPInstanceUID): ds for ds in outputs(source)}
    derived = outputs(magnify(source, tmp_path / "out"))
    assert len({ds.SeriesInstanceUID for ds in derived}) == 1
    assert len({ds.SOPInstanceUID for ds in derived}) == 3
    for ds in derived:
        (reference,) = ds.SourceImageSequence
        original = originals[reference.ReferencedSOPInstanceUID]
        assert ds.InstanceNumber == original.InstanceNumber
        assert ds.SeriesInstanceUID != original.SeriesInstanceUID
        assert ds.SeriesInstanceUID.startswith("2.25.")
        assert ds.StudyInstanceUID == original.StudyInstanceUID
        assert ds.FrameOfReferenceUID == original.FrameOfReferenceUID
        assert ds.ImageType == ["DERIVED", "SECONDARY", "AXIAL"]
        assert ds.SeriesDescription == "Thorax Übersicht SRx4 AI seed 0"
        assert ds.PatientName == original.PatientName
        assert ds.file_meta.ImplementationClassUID != original.file_meta.ImplementationClassUID
        assert (ds.ContentQualification, ds.SyntheticData) == ("RESEARCH", "YES")


def test_a_second_run_makes_a_second_series(phantom, magnify, outputs, tmp_path):
    source = phantom().write()
    series = {outputs(magnify(source, tmp_path / name))[0].SeriesInstanceUID for name in ("one", "two")}
    assert len(series) == 2


def test_earlier_steps_contributors_and_references_come_first(phantom, magnify, outputs, tmp_path):
    def edit(ds, index):
        scout, series, modality = Dataset(), Dataset(), Dataset()
        scout.ReferencedSOPClassUID, scout.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.2.3.4"
        series.SeriesInstanceUID, series.ReferencedInstanceSequence = "1.2.3", [scout]
        modality.Manufacturer, modality.PurposeOfReferenceCodeSequence = "Earlier", [code("109103")]
        stale = Dataset()
        stale.SeriesInstanceUID, stale.ReferencedInstanceSequence = "1.2.9", [Dataset()]
        stale.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID = "1.2.9.9"
        ds.ReferencedImageSequence = [scout]
        ds.ReferencedSeriesSequence = [series, stale]
        ds.ContributingEquipmentSequence = [modality]
        ds.DerivationCodeSequence, ds.DerivationDescription = [code("113040")], "earlier text"

    derived = outputs(magnify(phantom().write(edit), tmp_path / "out"))[0]
    assert derived.DerivationDescription.startswith("earlier text; qdm-med ")
    assert [item.CodeValue for item in derived.DerivationCodeSequence] == ["113040", "113085"]
    purposes = [item.PurposeOfReferenceCodeSequence[0].CodeValue for item in derived.ContributingEquipmentSequence]
    assert purposes == ["109103", "109101", "109102"]
    assert derived.ContributingEquipmentSequence[1].ManufacturerModelName == "P1"
    own = derived.SourceImageSequence[0].ReferencedSOPInstanceUID
    cited = [
        [i.ReferencedSOPInstanceUID for i in s.ReferencedInstanceSequence] for s in derived.ReferencedSeriesSequence
    ]
    assert cited == [["1.2.3.4"], [own]]


def test_times_are_in_the_zone_that_the_source_declares(phantom, magnify, outputs, tmp_path):
    source = phantom().write(lambda ds, index: setattr(ds, "TimezoneOffsetFromUTC", "+1345"))
    derived = outputs(magnify(source, tmp_path / "out"))[0]
    zone = dt.timezone(dt.timedelta(hours=13, minutes=45))
    created = dt.datetime.strptime(derived.InstanceCreationDate + derived.InstanceCreationTime, "%Y%m%d%H%M%S.%f")
    assert abs(dt.datetime.now(dt.UTC) - created.replace(tzinfo=zone)) < dt.timedelta(minutes=5)
    assert derived.TimezoneOffsetFromUTC == "+1345"
    assert derived.ContributingEquipmentSequence[-1].ContributionDateTime.endswith("+1345")
    assert derived.StudyDate == "20200102"


def test_the_standard_choice_makes_this_tool_the_equipment(phantom, magnify, outputs, tmp_path):
    derived = outputs(magnify(phantom().write(), tmp_path / "out", equipment="standard"))[0]
    assert (derived.Manufacturer, derived.ManufacturerModelName) == ("qdm-med", "qdm-med")
    assert derived.ContributingEquipmentSequence[0].Manufacturer == "Phantom Works"


def test_what_is_bound_to_the_old_grid_goes(phantom, magnify, outputs, tmp_path):
    def edit(ds, index):
        ds.add_new(0x60000010, "US", 20)
        ds.add_new(0x50000005, "US", 1)
        ds.ShutterShape, ds.ShutterLeftVerticalEdge = "RECTANGULAR", 3
        ds.IconImageSequence, ds.DigitalSignaturesSequence = [Dataset()], [Dataset()]
        ds.add_new("LargestImagePixelValue", "US", 4095)
        ds.DataSetTrailingPadding = bytes(8)

    derived = outputs(magnify(phantom().write(edit), tmp_path / "out"))[0]
    assert not any(element.tag.group in (0x5000, 0x6000, 0xFFFC) for element in derived)
    for keyword in ("ShutterShape", "IconImageSequence", "DigitalSignaturesSequence", "LargestImagePixelValue"):
        assert keyword not in derived


@pytest.mark.parametrize(("private", "kept"), [("keep", True), ("drop", False)])
def test_private_elements_are_kept_but_for_large_opaque_ones(phantom, magnify, outputs, tmp_path, private, kept):
    def edit(ds, index):
        block = ds.private_block(0x0029, "ACME 1.1", create=True)
        block.add_new(1, "OB", bytes(5000))
        block.add_new(2, "LO", "hello")

    derived = outputs(magnify(phantom().write(edit), tmp_path / "out", private=private))[0]
    assert (0x0029, 0x1001) not in derived
    assert ((0x0029, 0x1002) in derived) == kept
    assert ((0x0029, 0x0010) in derived) == kept


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, "1.2.840.10008.1.2.1", ExplicitVRBigEndian])
@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
        ("GB18030", "王^小东".encode("gb18030") + b" "),
        ("NO_SUCH_SET", b"\xff\xfe^\x81x "),
    ],
)
def test_text_is_copied_byte_for_byte_in_any_character_set(syntax, charset, name):
    element = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, syntax == ImplicitVRLittleEndian, True)
    source = Dataset()
    source["PatientName"] = element
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    source.set_original_encoding(implicit, little, "iso8859")
    with quiet():
        copied = as_explicit_little_endian(source).get_item("PatientName")
    assert bytes(copied.value) == name


def test_words_of_a_big_endian_source_are_turned(phantom, magnify, outputs, tmp_path):
    source = phantom(syntax=ExplicitVRBigEndian).write(
        lambda ds, index: ds.private_block(0x0029, "ACME", create=True).add_new(1, "OW", b"\1\2\3\4")
    )
    assert outputs(magnify(source, tmp_path / "out"))[0][0x0029, 0x1001].value == b"\2\1\4\3"


def test_a_long_description_is_cut_and_the_suffix_kept(phantom, magnify, outputs, tmp_path):
    source = phantom().write(text("SeriesDescription", "LO", b"x" * 64))
    description = outputs(magnify(source, tmp_path / "out"))[0].SeriesDescription
    assert len(description) == 64
    assert description.endswith("xx SRx4 AI seed 0")


@pytest.mark.parametrize(("charset", "name"), [("ISO_IR 100", b"Ab\x07\x1b[31m"), ("NO_SUCH_SET", b"Ab\xff\xfe[31m")])
def test_a_description_that_breaks_its_character_set_is_not_carried_on(
    phantom, magnify, outputs, tmp_path, charset, name
):
    def edit(ds, index):
        ds.SpecificCharacterSet = charset
        text("SeriesDescription", "LO", name)(ds)

    source = phantom(slices=1).write(edit)
    with quiet():
        assert outputs(magnify(source, tmp_path / "out"))[0].SeriesDescription == "Ab[31m SRx4 AI seed 0"


@given(
    source=st.one_of(st.none(), st.integers(-5, 2**31 - 1)),
    scale=st.sampled_from([4, 8]),
    taken=st.frozensets(st.integers(0, 2**31 - 1), max_size=20),
)
def test_the_series_number_is_free_and_fits_an_integer_string(source, scale, taken):
    number = free_series_number(source, scale, taken)
    assert number not in taken
    assert 0 < number < 2**31


def test_names_and_uids_of_the_source_never_become_paths(phantom, magnify, tmp_path):
    evil = text("SeriesInstanceUID", "UI", b"../../../escape\0")
    out = magnify(phantom().write(evil), tmp_path / "deep" / "out")
    assert sorted(path.name for path in out.iterdir()) == ["00001.dcm", "00002.dcm", "00003.dcm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "in"]


def test_lossy_sources_stay_marked(phantom, magnify, outputs, tmp_path):
    def edit(ds, index):
        ds.LossyImageCompression, ds.LossyImageCompressionRatio = "01", "7.5"

    derived = outputs(magnify(phantom().write(edit), tmp_path / "out"))[0]
    assert (derived.LossyImageCompression, derived.LossyImageCompressionRatio) == (
        "01",
        pydicom.valuerep.DSfloat("7.5"),
    )
