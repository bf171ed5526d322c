"""Sections 1 to 6: what is taken over as it is, and what is bound to the old pixels or the old file."""

from __future__ import annotations

import pydicom

from tests.io.derived_contract.slices import Mutations, Rule, cut, put
from tests.io.derived_contract.source import ALSO_KEPT, DROPPED, KEPT

CHECKED_DROPS = {
    **dict.fromkeys(("IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence"), "drop.pixel_bound"),
    **dict.fromkeys(("PixelAspectRatio", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"), "drop.pixel_bound"),
    **dict.fromkeys(("SmallestImagePixelValue", "LargestImagePixelValue"), "pix.min_max_attributes"),
    "ShutterLeftVerticalEdge": "drop.display_shutter_rescaled",
}


CHECKED_CUTS = dict.fromkeys([each for each in KEPT if each.startswith("Lossy")], "pix.lossy_flag")


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


RULES: dict[str, Rule] = {
    **{f"keep {keyword}": same(keyword) for keyword in (*KEPT, *ALSO_KEPT)},
    **{
        f"drop {keyword}": (lambda pair, keyword=keyword: keyword not in pair.derived)
        for keyword in (*DROPPED, "NumberOfFrames")
    },
}


MUTATIONS: Mutations = [
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
]
