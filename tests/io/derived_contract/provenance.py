"""Section 2: where it came from, who made it, and when."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from tests.io.derived_contract.slices import Mutate, Mutations, Rule, constant, cut, put, put_all
from tests.io.derived_contract.source import SOURCE_ROOT, code

CHANGED = {
    *("ImageType", "InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDate"),
    *("SeriesTime", "SOPInstanceUID", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "Rows", "Columns"),
    *("DerivationDescription", "DerivationCodeSequence", "SourceImageSequence", "ContributingEquipmentSequence"),
    *("PixelSpacing", "ImagePositionPatient", "PixelData", "ReferencedSeriesSequence", "ContentQualification"),
    "SyntheticData",
}


def codes(sequence) -> list[str]:
    return [each.CodeValue for each in sequence]


def purposes(ds) -> list[str]:
    return [each.PurposeOfReferenceCodeSequence[0].CodeValue for each in ds.ContributingEquipmentSequence]


def recent(prefix):
    """Within the last hour if read in the declared zone, +05:45."""

    def rule(pair):
        text = pair.derived.get(f"{prefix}Date", "") + pair.derived.get(f"{prefix}Time", "")
        zone = timezone(timedelta(hours=5, minutes=45))
        moment = datetime.strptime(text, "%Y%m%d%H%M%S.%f").replace(tzinfo=zone)
        return timedelta(minutes=-1) < datetime.now(UTC) - moment < timedelta(hours=1)

    return rule


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


def only_known_attributes(pair):
    derived, source = ({each.keyword for each in ds if not each.tag.is_private} for ds in (pair.derived, pair.source))
    return derived <= source | CHANGED


RULES: dict[str, Rule] = {
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
}


def of_tool(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].ContributingEquipmentSequence[-1], keyword, value)


def of_source(keyword, value) -> Mutate:
    return lambda series: setattr(series[0].SourceImageSequence[0], keyword, value)


MUTATIONS: Mutations = [
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
]
