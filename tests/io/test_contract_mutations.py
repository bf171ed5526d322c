"""Every rule of the contract of a derived series is watched: break it on purpose, and a test of it fails.

``RULES`` states the contract once more, from the standard and without the package's code. ``MUTATIONS`` breaks a good
derived series in one way each and names the rule, and the row of the outside checker, that must notice.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.tag import Tag

CHECKER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "check_derived.py"
SCALE = 4
SOURCE_ROOT = "1.2.826.0.1.3680043.8.498"


def item(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def code(value: str) -> list[Dataset]:
    return [item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning="meaning")]


def everything(ds, index):
    """A source slice with at least one attribute for every rule."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    for keyword, value in KEPT.items():
        setattr(ds, keyword, value)
    ds.SliceLocation = f"{30 + 2.5 * index:.2f}"
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    ds["PatientName"] = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, False, True)
    ds.DerivationDescription, ds.DerivationCodeSequence = "earlier text", code("113040")
    ds.ContributingEquipmentSequence = [item(Manufacturer="Earlier", PurposeOfReferenceCodeSequence=code("109103"))]
    ds.SyntheticData = "YES"
    scout = item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID="1.2.3.4")
    ds.ReferencedImageSequence = [scout]
    ds.ReferencedSeriesSequence = [item(SeriesInstanceUID="1.2.3", ReferencedInstanceSequence=[scout])]
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20200102", "030405"
    ds.SeriesDate, ds.SeriesTime = "20200102", "030405"
    for keyword, value in DROPPED.items():
        setattr(ds, keyword, value)
    ds.add_new(0x60000010, "US", 20)
    ds.add_new(0x50000005, "US", 1)
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(1, "OB", bytes(5000))
    block.add_new(2, "LO", "hello")
    block.add_new(3, "SQ", [item(PatientID="nested")])
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
    stored[:3], stored[:, -2:], stored[0, 0] = -2000, -2000, -1995
    ds.PixelData = stored.tobytes()


KEPT = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientAge": "050Y",
    "PatientWeight": "70",
    "PatientSex": "F",
    "StudyDescription": "Chest",
    "StudyDate": "20200102",
    "StudyTime": "030405",
    "StudyID": "7",
    "AccessionNumber": "A1",
    "AcquisitionDate": "20200102",
    "AcquisitionTime": "030405",
    "AcquisitionNumber": 3,
    "AcquisitionUID": "1.2.5",
    "IrradiationEventUID": "1.2.6",
    "PositionReferenceIndicator": "SN",
    "ReferencedPerformedProcedureStepSequence": [item(ReferencedSOPInstanceUID="1.2.7")],
    "RequestAttributesSequence": [item(ScheduledProcedureStepID="9")],
    "OriginalAttributesSequence": [item(ReasonForTheAttributeModification="COERCE")],
    "TimezoneOffsetFromUTC": "+0545",
    "TemporalPositionIdentifier": 1,
    "InstitutionName": "Hospital",
    "StationName": "CT1",
    "DeviceSerialNumber": "123",
    "SoftwareVersions": "syngo 1",
    "ManufacturerModelName": "P1",
    "SliceThickness": "2.5",
    "SpacingBetweenSlices": "2.5",
    "GantryDetectorTilt": "0.0",
    "ReconstructionDiameter": "12.00",
    "DataCollectionDiameter": "500",
    "ReconstructionTargetCenterPatient": [1.0, 2.0, 3.0],
    "DataCollectionCenterPatient": [1.0, 2.0, 3.0],
    "TableHeight": "150",
    "KVP": "120",
    "ConvolutionKernel": "B30f",
    "CTDIvol": 5.5,
    "RescaleSlope": "1.000",
    "RescaleIntercept": "0.0",
    "RescaleType": "HU",
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelPaddingValue": -2000,
    "PixelPaddingRangeLimit": -1990,
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1500"],
    "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
    "VOILUTFunction": "LINEAR",
    "PresentationLUTShape": "IDENTITY",
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "7.5",
    "LossyImageCompressionMethod": "ISO_10918_1",
    "BurnedInAnnotation": "NO",
    "RecognizableVisualFeatures": "NO",
    "RealWorldValueMappingSequence": [item(RealWorldValueSlope=1.0)],
    "QualityControlImage": "NO",
}
"""Attributes that a derived image has as its source has them (sections 1 to 4 and 6)."""

ALSO_KEPT = (
    *("SOPClassUID", "Modality", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "Manufacturer"),
    *("PatientBirthDate", "PatientPosition", "InstanceNumber", "SliceLocation", "ImageOrientationPatient"),
    *("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ReferencedImageSequence"),
)

DROPPED = {
    "InstanceCreatorUID": "1.2.8",
    "StorageMediaFileSetID": "SET",
    "StorageMediaFileSetUID": "1.2.9",
    "DigitalSignaturesSequence": [item(MACIDNumber=1)],
    "MACParametersSequence": [item(MACIDNumber=1)],
    "IconImageSequence": [item(Rows=1)],
    "DataSetTrailingPadding": bytes(8),
    "PixelAspectRatio": [1, 1],
    "ExtendedOffsetTable": bytes(8),
    "ExtendedOffsetTableLengths": bytes(8),
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 3,
    "SmallestImagePixelValue": 5,
    "LargestImagePixelValue": 5,
    "SmallestPixelValueInSeries": 5,
    "LargestPixelValueInSeries": 5,
}
"""What is bound to the old pixels or the old file (sections 2 to 5)."""
CHECKED_DROPS = {
    **dict.fromkeys(("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence"), "drop.pixel_bound"),
    **dict.fromkeys(("PixelAspectRatio", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"), "drop.pixel_bound"),
    **dict.fromkeys(("SmallestImagePixelValue", "LargestImagePixelValue"), "pix.min_max_attributes"),
    "ShutterLeftVerticalEdge": "drop.display_shutter_rescaled",
}
CHANGED = {
    *("ImageType", "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDate"),
    *("SeriesTime", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Rows", "Columns"),
    *("DerivationDescription", "DerivationCodeSequence", "SourceImageSequence", "ContributingEquipmentSequence"),
    *("PixelSpacing", "ImagePositionPatient", "PixelData", "ReferencedSeriesSequence", "ContentQualification"),
    "SyntheticData",
}


@dataclass(frozen=True)
class Slice:
    """A derived slice, its source and the whole derived series in the order of the file names."""

    derived: Dataset
    source: Dataset
    series: list[Dataset]

    def stored(self) -> tuple[np.ndarray, np.ndarray]:
        """Stored values of source and derived as they stand in the file."""
        return tuple(
            np.frombuffer(ds.PixelData, "<i2")[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns).astype(int)
            for ds in (self.source, self.derived)
        )


def as_written(value):
    """Numbers and names as the characters that stand in the file."""
    if isinstance(value, pydicom.multival.MultiValue):
        return [as_written(each) for each in value]
    return getattr(value, "original_string", value)


def same(keyword):
    def rule(pair):
        derived, source = (as_written(ds[keyword].value) for ds in (pair.derived, pair.source))
        return derived == source

    return rule


def codes(sequence) -> list[str]:
    return [each.CodeValue for each in sequence]


def purposes(ds) -> list[str]:
    return [each.PurposeOfReferenceCodeSequence[0].CodeValue for each in ds.ContributingEquipmentSequence]


def constant(*keywords):
    return lambda pair: all(len({str(ds.get(keyword)) for ds in pair.series}) == 1 for keyword in keywords)


def recent(prefix):
    """Within the last hour if read in the declared zone, +05:45."""

    def rule(pair):
        text = pair.derived.get(f"{prefix}Date", "") + pair.derived.get(f"{prefix}Time", "")
        zone = timezone(timedelta(hours=5, minutes=45))
        moment = datetime.strptime(text, "%Y%m%d%H%M%S.%f").replace(tzinfo=zone)
        return timedelta(minutes=-1) < datetime.now(UTC) - moment < timedelta(hours=1)

    return rule


def corners(ds) -> np.ndarray:
    right, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, ds.PixelSpacing)
    first = np.array(ds.ImagePositionPatient, float)
    return np.array(
        [
            first + (column - 0.5) * between_columns * right + (row - 0.5) * between_rows * down
            for row in (0, ds.Rows)
            for column in (0, ds.Columns)
        ]
    )


def in_order(pair):
    places = [float(ds.ImagePositionPatient[2]) for ds in pair.series]
    return places == sorted(places) and len(set(places)) == 3


def tool_item(pair):
    tool = pair.derived.ContributingEquipmentSequence[-1]
    return (
        (tool.Manufacturer, tool.ManufacturerModelName) == ("qdm-med", "qdm-med")
        and len(tool.SoftwareVersions) == 2
        and "sha256:" in tool.SoftwareVersions[1]
        and re.fullmatch(r"\d{14}\.\d{6}\+0545", str(tool.ContributionDateTime)) is not None
        and bool(tool.ContributionDescription)
    )


def scanner_item(pair):
    (scanner,) = (
        each
        for each in pair.derived.ContributingEquipmentSequence
        if each.PurposeOfReferenceCodeSequence[0].CodeValue == "109101"
    )
    named = ("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "DeviceSerialNumber")
    return all(scanner.get(keyword) == pair.source.get(keyword) for keyword in (*named, "SoftwareVersions"))


def cited(pair):
    references = [i for each in pair.derived.ReferencedSeriesSequence for i in each.ReferencedInstanceSequence]
    series = [each.SeriesInstanceUID for each in pair.derived.ReferencedSeriesSequence]
    return series == ["1.2.3", pair.source.SeriesInstanceUID] and [i.ReferencedSOPInstanceUID for i in references] == [
        "1.2.3.4",
        pair.source.SOPInstanceUID,
    ]


def padding_repeated(pair):
    source, derived = pair.stored()
    return np.array_equal(
        np.where((derived >= -2000) & (derived <= -1990), derived, 0),
        np.where((source >= -2000) & (source <= -1990), source, 0).repeat(SCALE, 0).repeat(SCALE, 1),
    )


def block_means(pair):
    source, derived = pair.stored()
    means = derived.reshape(source.shape[0], SCALE, source.shape[1], SCALE).mean((1, 3))
    return np.abs(means - source).mean() <= 2


def only_known_attributes(pair):
    derived, source = ({each.keyword for each in ds if not each.tag.is_private} for ds in (pair.derived, pair.source))
    return derived <= source | CHANGED


def private_kept(pair):
    private = {int(each.tag): each.value for each in pair.derived if each.tag.is_private}
    return private.keys() == {0x00290010, 0x00291002, 0x00291003} and all(
        pair.source[tag].value == value for tag, value in private.items()
    )


def digits(pair):
    texts = [str(number.original_string) for number in [*pair.derived.PixelSpacing, *pair.derived.ImagePositionPatient]]
    return all(len(text) <= 16 for text in texts)


def spacing(pair):
    return np.allclose(
        np.array(pair.derived.PixelSpacing, float) * SCALE, np.array(pair.source.PixelSpacing, float), rtol=1e-6
    )


Rule = Callable[[Slice], bool]
RULES: dict[str, Rule] = {
    **{f"keep {keyword}": same(keyword) for keyword in (*KEPT, *ALSO_KEPT)},
    **{
        f"drop {keyword}": (lambda pair, keyword=keyword: keyword not in pair.derived)
        for keyword in (*DROPPED, "NumberOfFrames")
    },
    "1 new instance": lambda pair: pair.derived.SOPInstanceUID != pair.source.SOPInstanceUID,
    "1 every instance once": lambda pair: len({ds.SOPInstanceUID for ds in pair.series}) == len(pair.series),
    "1 new series": lambda pair: pair.derived.SeriesInstanceUID != pair.source.SeriesInstanceUID,
    "1 one series": constant("SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    "1 UIDs of our own root": lambda pair: all(
        re.fullmatch(r"2\.25\.[1-9]\d*", uid) and len(uid) <= 64
        for uid in (pair.derived.SOPInstanceUID, pair.derived.SeriesInstanceUID)
    ),
    "1 free series number": lambda pair: pair.derived.SeriesNumber == 100 * pair.source.SeriesNumber + SCALE,
    "1 description says what it is": lambda pair: (
        pair.derived.SeriesDescription == f"{pair.source.SeriesDescription} SRx{SCALE} AI"
    ),
    "1 files in the order of places": in_order,
    "2 image type": lambda pair: list(pair.derived.ImageType) == ["DERIVED", "SECONDARY", "AXIAL", "CT_SOM5 SPI"],
    "2 derivation description": lambda pair: (
        re.fullmatch(
            r"earlier text; qdm-med \S+: 4x4 in-plane super-resolution, model nearest sha256:0{12}, steps 1, seed 0",
            pair.derived.DerivationDescription,
        )
        is not None
    ),
    "2 derivation codes": lambda pair: codes(pair.derived.DerivationCodeSequence) == ["113040", "113085"],
    "2 source image": lambda pair: (
        [(each.ReferencedSOPClassUID, each.ReferencedSOPInstanceUID) for each in pair.derived.SourceImageSequence]
        == [(pair.source.SOPClassUID, pair.source.SOPInstanceUID)]
    ),
    "2 purpose of reference": lambda pair: (
        codes(pair.derived.SourceImageSequence[0].PurposeOfReferenceCodeSequence) == ["121322"]
    ),
    "2 locations not preserved": lambda pair: pair.derived.SourceImageSequence[0].SpatialLocationsPreserved == "NO",
    "2 referenced series": cited,
    "2 contributors in order": lambda pair: purposes(pair.derived) == ["109103", "109101", "109102"],
    "2 scanner item": scanner_item,
    "2 tool item": tool_item,
    "2 research": lambda pair: pair.derived.ContentQualification == "RESEARCH",
    "2 synthetic": lambda pair: pair.derived.SyntheticData == "YES",
    **{f"2 {prefix} now": recent(prefix) for prefix in ("InstanceCreation", "Content", "Series")},
    "2 one series time": constant("SeriesDate", "SeriesTime"),
    "2 nothing else added": only_known_attributes,
    "3 rows and columns": lambda pair: (
        (pair.derived.Rows, pair.derived.Columns) == (SCALE * pair.source.Rows, SCALE * pair.source.Columns)
    ),
    "3 pixel spacing": spacing,
    "3 outer corners": lambda pair: np.allclose(corners(pair.derived), corners(pair.source), atol=1e-3),
    "3 short decimal strings": digits,
    "3 every slice": lambda pair: len(pair.series) == 3,
    "4 within the bits": lambda pair: pair.stored()[1].min() >= -2048 and pair.stored()[1].max() <= 2047,
    "4 padding": padding_repeated,
    "4 block means": block_means,
    "4 as many pixels": lambda pair: len(pair.derived.PixelData) == 2 * pair.derived.Rows * pair.derived.Columns,
    "5 overlays and curves": lambda pair: not any(each.tag.group >> 8 in (0x50, 0x60) for each in pair.derived),
    "6 private": private_kept,
    "6 meta names the instance": lambda pair: (
        (pair.derived.file_meta.MediaStorageSOPClassUID, pair.derived.file_meta.MediaStorageSOPInstanceUID)
        == (pair.derived.SOPClassUID, pair.derived.SOPInstanceUID)
    ),
    "6 implementation": lambda pair: (
        pair.derived.file_meta.get("ImplementationClassUID", "").startswith("2.25.")
        and pair.derived.file_meta.get("ImplementationVersionName", "").startswith("qdm-med")
    ),
    "6 no source title": lambda pair: "SourceApplicationEntityTitle" not in pair.derived.file_meta,
    "6 transfer syntax": lambda pair: pair.derived.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1",
    "6 empty preamble": lambda pair: pair.derived.preamble == bytes(128),
}

Mutate = Callable[[list[Dataset]], object]


def put(keyword, value) -> Mutate:
    return lambda series: setattr(series[0], keyword, value)


def put_all(keyword, value) -> Mutate:
    return lambda series: [setattr(ds, keyword, value) for ds in series]


def cut(keyword) -> Mutate:
    return lambda series: delattr(series[0], keyword)


def meta(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].file_meta, keyword, value)


def pixels(change) -> Mutate:
    def mutate(series):
        for ds in series:
            stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
            ds.PixelData = change(stored).astype("<i2").tobytes()

    return mutate


def image_pixel(value):
    def change(stored):
        stored[60, 60] = value
        return stored

    return change


def swap_places(series):
    first, last = series[0].ImagePositionPatient, series[2].ImagePositionPatient
    series[0].ImagePositionPatient, series[2].ImagePositionPatient = last, first


def of_tool(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].ContributingEquipmentSequence[-1], keyword, value)


def of_source(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].SourceImageSequence[0], keyword, value)


CHECKED_CUTS = dict.fromkeys([each for each in KEPT if each.startswith("Lossy")], "pix.lossy_flag")
SOURCE_UID = f"{SOURCE_ROOT}.1.1"
MUTATIONS: list[tuple[str, Mutate, str | None]] = [
    *((f"keep {keyword}", cut(keyword), CHECKED_CUTS.get(keyword, "keep.")) for keyword in KEPT),
    *((f"drop {keyword}", put(keyword, value), CHECKED_DROPS.get(keyword)) for keyword, value in DROPPED.items()),
    ("keep SOPClassUID", put("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7"), "sop.class_ct_image"),
    ("keep Modality", put("Modality", "OT"), "sop.class_ct_image"),
    ("keep StudyInstanceUID", put("StudyInstanceUID", "1.2.3"), "keep.study"),
    ("keep FrameOfReferenceUID", put("FrameOfReferenceUID", "1.2.3"), "keep.frame_of_reference"),
    ("keep PatientID", put("PatientID", "another"), "keep.patient"),
    ("keep PatientName", put("PatientName", "Yamada^Tarou"), "keep.patient"),
    ("keep PatientBirthDate", put("PatientBirthDate", "19000101"), "keep.patient"),
    ("keep Manufacturer", put("Manufacturer", "qdm-med"), "keep.equipment"),
    ("keep PatientPosition", put("PatientPosition", "FFS"), "keep.acquisition"),
    ("keep InstanceNumber", put("InstanceNumber", 99), "keep.slice"),
    ("keep InstanceNumber", put("InstanceNumber", 99), "series.instance_numbers"),
    ("keep SliceLocation", put("SliceLocation", "99"), "geom.slice_location_consistent"),
    ("keep ImageOrientationPatient", put("ImageOrientationPatient", [1, 0, 0, 0, 0, 1]), "geom.orientation"),
    ("keep SamplesPerPixel", put("SamplesPerPixel", 2), "keep.pixel_desc"),
    ("keep BitsAllocated", put("BitsAllocated", 8), "pix.description"),
    ("keep BitsStored", put("BitsStored", 16), "keep.pixel_desc"),
    ("keep HighBit", put("HighBit", 15), "keep.pixel_desc"),
    ("keep PixelRepresentation", put("PixelRepresentation", 0), "keep.pixel_desc"),
    ("keep ReferencedImageSequence", put("ReferencedImageSequence", []), "keep.references"),
    ("keep RescaleSlope", put("RescaleSlope", "2"), "keep.rescale"),
    ("keep RescaleSlope", put("RescaleSlope", "1"), None),
    ("keep TimezoneOffsetFromUTC", put("TimezoneOffsetFromUTC", "+0000"), "keep.charset"),
    ("keep LossyImageCompression", put("LossyImageCompression", "00"), "pix.lossy_flag"),
    ("drop NumberOfFrames", put("NumberOfFrames", 2), "pix.description"),
    ("1 new instance", put("SOPInstanceUID", SOURCE_UID), "uid.sop_not_reused"),
    ("1 every instance once", lambda s: setattr(s[0], "SOPInstanceUID", s[1].SOPInstanceUID), "uid.sop_unique"),
    ("1 new series", put_all("SeriesInstanceUID", f"{SOURCE_ROOT}.1"), "uid.series_not_reused"),
    ("1 one series", put("SeriesInstanceUID", "2.25.7"), "uid.one_series"),
    ("1 one series", put("SeriesNumber", 7), "series.constant_attributes"),
    ("1 UIDs of our own root", put("SOPInstanceUID", "2.25.007"), "uid.valid_syntax"),
    ("1 UIDs of our own root", put("SOPInstanceUID", "2.25." + "7" * 60), "uid.valid_syntax"),
    ("1 UIDs of our own root", put("SOPInstanceUID", f"{SOURCE_UID}.1"), None),
    ("1 free series number", put_all("SeriesNumber", 1), "series.number"),
    ("1 free series number", put_all("SeriesNumber", None), "series.number"),
    ("1 description says what it is", put_all("SeriesDescription", "Thorax Übersicht"), "series.description"),
    ("1 description says what it is", put_all("SeriesDescription", "x" * 65), "series.description"),
    ("1 files in the order of places", swap_places, "ref.same_plane_as_source"),
    ("2 image type", put("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]), "type.image_type"),
    ("2 image type", put("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]), "type.image_type"),
    ("2 image type", put("ImageType", ["DERIVED", "SECONDARY"]), "type.image_type"),
    ("2 derivation description", put("DerivationDescription", "ours alone"), "prov.derivation_description"),
    ("2 derivation description", cut("DerivationDescription"), "prov.derivation_description"),
    ("2 derivation description", put("DerivationDescription", "earlier text"), "prov.derivation_description"),
    ("2 derivation codes", put("DerivationCodeSequence", code("113040")), "prov.derivation_code"),
    ("2 derivation codes", put("DerivationCodeSequence", code("113085")), "prov.derivation_code"),
    ("2 source image", cut("SourceImageSequence"), "ref.source_images_resolve"),
    ("2 source image", of_source("ReferencedSOPInstanceUID", "1.2.3"), "ref.source_images_resolve"),
    ("2 source image", of_source("ReferencedSOPInstanceUID", f"{SOURCE_ROOT}.1.2"), "ref.each_source_once"),
    ("2 source image", of_source("ReferencedSOPClassUID", "1.2.3"), "ref.source_images_resolve"),
    ("2 purpose of reference", of_source("PurposeOfReferenceCodeSequence", code("1")), "ref.purpose_of_reference"),
    ("2 locations not preserved", of_source("SpatialLocationsPreserved", "YES"), "ref.spatial_locations_not_claimed"),
    ("2 referenced series", lambda s: s[0].ReferencedSeriesSequence.pop(), None),
    ("2 contributors in order", lambda s: s[0].ContributingEquipmentSequence.pop(), "prov.contributing_equipment"),
    ("2 contributors in order", lambda s: s[0].ContributingEquipmentSequence.pop(0), "prov.contributing_equipment"),
    ("2 contributors in order", lambda s: s[0].ContributingEquipmentSequence.pop(1), None),
    ("2 scanner item", lambda s: setattr(s[0].ContributingEquipmentSequence[1], "StationName", "x"), None),
    ("2 tool item", of_tool("SoftwareVersions", ""), "prov.contributing_equipment"),
    ("2 tool item", of_tool("ContributionDateTime", "20260101120000"), "prov.contribution_datetime_zoned"),
    ("2 tool item", of_tool("ContributionDescription", ""), None),
    ("2 research", put("ContentQualification", "PRODUCT"), "prov.content_qualification"),
    ("2 synthetic", cut("SyntheticData"), "prov.synthetic_data_sticky"),
    ("2 InstanceCreation now", put("InstanceCreationDate", "20200102"), "prov.instance_creation_now"),
    ("2 Content now", put("ContentDate", "20200102"), None),
    ("2 Series now", put_all("SeriesDate", "20200102"), None),
    ("2 one series time", put("SeriesTime", "000000.000000"), "series.constant_attributes"),
    ("2 nothing else added", put("AlgorithmName", "qdm-med"), "keep.nothing_unexpected_added"),
    ("3 rows and columns", put("Rows", 20), "geom.rows_columns"),
    ("3 rows and columns", put("Columns", 24), "geom.rows_columns"),
    ("3 pixel spacing", put("PixelSpacing", [0.188, 0.125]), "geom.pixel_spacing"),
    ("3 pixel spacing", put("PixelSpacing", [0.125, 0.1875]), "geom.pixel_spacing"),
    ("3 outer corners", put("ImagePositionPatient", [-100, -80, 30]), "geom.image_position"),
    ("3 outer corners", put("ImagePositionPatient", [-100, -80, 30]), "geom.outer_corners"),
    ("3 outer corners", put("ImagePositionPatient", [-100.1875, -80.28125, 31]), "ref.same_plane_as_source"),
    ("3 outer corners", put("ImagePositionPatient", [-100.1875, -80.28125, 31]), "geom.slice_gaps_equal"),
    ("3 short decimal strings", put("PixelSpacing", ["0.18750000000000001", "0.125"]), "geom.ds_length"),
    ("3 every slice", lambda series: series.pop(), "ref.all_source_slices_covered"),
    ("4 within the bits", pixels(image_pixel(3000)), "pix.fits_bits_stored"),
    ("4 padding", pixels(image_pixel(-1995)), "pix.padding_kept"),
    ("4 padding", pixels(lambda stored: np.where(stored <= -1990, -1000, stored)), "pix.padding_kept"),
    ("4 block means", pixels(lambda stored: np.where(stored > -1990, stored + 10, stored)), "pix.hu_agrees"),
    ("4 block means", pixels(lambda stored: stored[:, ::-1]), "pix.orientation_in_plane"),
    ("4 block means", pixels(lambda stored: np.roll(stored, 4, 1)), "pix.hu_agrees"),
    ("4 as many pixels", lambda s: setattr(s[0], "PixelData", s[0].PixelData[:-2]), "pix.description"),
    ("5 overlays and curves", lambda s: s[0].add_new(0x60020010, "US", 20), "drop.overlays_curves"),
    ("5 overlays and curves", lambda s: s[0].add_new(0x50000005, "US", 1), "drop.overlays_curves"),
    ("6 private", lambda s: s[0].pop(Tag(0x0029, 0x1002)), "keep.private_keep"),
    ("6 private", lambda s: s[0].add_new(0x00291001, "OB", bytes(5000)), None),
    ("6 private", lambda s: s[0].private_block(0x0031, "QDM", create=True).add_new(1, "LO", "x"), "keep.nothing"),
    ("6 meta names the instance", meta("MediaStorageSOPInstanceUID", "1.2.3"), "meta.sop_matches_dataset"),
    ("6 meta names the instance", meta("MediaStorageSOPClassUID", "1.2.3"), "meta.sop_matches_dataset"),
    ("6 implementation", meta("ImplementationClassUID", f"{SOURCE_ROOT}.9"), "meta.implementation"),
    ("6 implementation", meta("ImplementationVersionName", "SCANNER"), None),
    ("6 no source title", meta("SourceApplicationEntityTitle", "CT1"), "meta.no_source_ae"),
    ("6 transfer syntax", meta("TransferSyntaxUID", "1.2.840.10008.1.2.1.99"), "meta.transfer_syntax"),
    ("6 empty preamble", lambda s: setattr(s[0], "preamble", b"x" * 128), None),
]
NAMES = [f"{number}: {rule}" for number, (rule, _, _) in enumerate(MUTATIONS)]


@dataclass(frozen=True)
class Made:
    """The good series: its source folder and both sides, in the order of the slices."""

    source: Path
    sources: list[Dataset]
    derived: list[Dataset]

    def mutant(self, mutate: Mutate) -> list[Dataset]:
        series = copy.deepcopy(self.derived)
        with quiet():
            mutate(series)
        return series


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")  # mutants break the standard on purpose
        yield


@pytest.fixture(scope="module")
def made(phantom_at, magnify, outputs, tmp_path_factory):
    source = phantom_at(tmp_path_factory.mktemp("mutants") / "in", bits=12, signed=True, intercept=0.0).write(
        everything
    )
    derived = outputs(magnify(source, source.parent / "out", SCALE))
    return Made(source, sorted(outputs(source), key=lambda ds: ds.InstanceNumber), derived)


def holds(rule: str, series: list[Dataset], sources: list[Dataset]) -> bool:
    """Whether a rule holds for every slice; what cannot be judged does not hold."""
    try:
        with quiet():
            pairs = [Slice(derived, source, series) for derived, source in zip(series, sources, strict=False)]
            return all(RULES[rule](pair) for pair in pairs)
    except (AttributeError, KeyError, ValueError, IndexError, TypeError):
        return False


@pytest.mark.parametrize("rule", RULES)
def test_a_derived_series_keeps_the_rule(made, rule):
    with quiet():
        assert all(
            RULES[rule](Slice(derived, source, made.derived))
            for derived, source in zip(made.derived, made.sources, strict=True)
        )


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=NAMES)
def test_a_broken_rule_is_noticed(made, number):
    rule, mutate, _ = MUTATIONS[number]
    assert not holds(rule, made.mutant(mutate), made.sources)


def test_every_rule_has_been_broken():
    assert {rule for rule, _, _ in MUTATIONS} == RULES.keys()


@pytest.fixture(scope="module")
def failed_rows():
    """Rows of the outside checker that fail for a series."""
    spec = importlib.util.spec_from_file_location("check_derived", CHECKER)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)

    def judge(source: Path, series: list[Dataset], folder: Path) -> list[str]:
        folder.mkdir()
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            for index, ds in enumerate(series):
                pydicom.dcmwrite(folder / f"{index:05d}.dcm", correct_ambiguous_vr(ds, True))
            _, rows = checker.run([str(source), str(folder), str(SCALE), "--no-dciodvfy"])
        assert len(rows) > 40
        return [name for name, passed in rows if not passed]

    return judge


@pytest.mark.shared
def test_the_outside_checker_finds_nothing_in_the_good_series(made, failed_rows, tmp_path):
    assert failed_rows(made.source, made.mutant(lambda series: None), tmp_path / "out") == []


@pytest.mark.shared
@pytest.mark.parametrize("number", [n for n, (_, _, row) in enumerate(MUTATIONS) if row], ids=lambda n: NAMES[n])
def test_the_outside_checker_notices_the_same_break(made, failed_rows, tmp_path, number):
    _, mutate, row = MUTATIONS[number]
    failed = failed_rows(made.source, made.mutant(mutate), tmp_path / "out")
    assert any(name.startswith(row) for name in failed), failed
