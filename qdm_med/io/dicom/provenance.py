"""Provenance of a derived image: its source and its makers (PS3.3 C.7.6.1, C.12.1, C.12.2)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from qdm_med._version import __version__
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.explicit_vr import raw_text

DESCRIPTION_LENGTH = 1024
"""Characters of an ST value (PS3.5 6.2)."""
SPATIAL_RESAMPLING = ("113085", "Spatial resampling")  # CID 7203: no code means generative super-resolution
SOURCE_IMAGE = ("121322", "Source image for image processing operation")  # CID 7202
ACQUISITION_EQUIPMENT = ("109101", "Acquisition Equipment")  # CID 7005
PROCESSING_EQUIPMENT = ("109102", "Processing Equipment")

_SCANNER = (
    *("Manufacturer", "InstitutionName", "InstitutionAddress", "StationName", "InstitutionalDepartmentName"),
    *("ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
)
_SCANNER_ONLY = ("StationName", "DeviceSerialNumber")


def add_provenance(
    header: Dataset, source: Any, derivation: Derivation, now: datetime, *, equipment: str = "keep"
) -> None:
    """Record derivation, source, equipment and purpose in a derived header.

    Args:
        header: The derived header; changed.
        source: Parsed file of the source slice.
        derivation: Record of how the pixels are computed.
        now: When, in the header's time zone.
        equipment: See :class:`qdm_med.io.dicom.derived_header.DerivedSeries`.
    """
    _add_derivation(header, derivation)
    _add_source(header, source)
    _add_equipment(header, derivation, now)
    header.ContentQualification = "RESEARCH"
    header.SyntheticData = "YES"  # part of the detail is generated
    if equipment == "standard":
        _become_the_equipment(header)


def _add_derivation(header: Dataset, derivation: Derivation) -> None:
    """Add our derivation behind earlier ones, whose text and steps stay (PS3.3 C.7.6.1.1.3)."""
    element = header.get_item("DerivationDescription")
    value = (element.value if element is not None else None) or b""
    earlier = value.rstrip(b" \0") if isinstance(value, bytes) else str(value).encode("ascii", "replace")
    ours = derivation.description().encode()
    room = DESCRIPTION_LENGTH - len(earlier) - 2
    if room < len(TOOL):
        earlier, room = b"", DESCRIPTION_LENGTH
    header["DerivationDescription"] = raw_text(
        "DerivationDescription", "ST", b"; ".join(filter(None, [earlier, ours[:room]]))
    )
    header.DerivationCodeSequence = _appended(header, "DerivationCodeSequence", _code(SPATIAL_RESAMPLING))


def _add_source(header: Dataset, source: Any) -> None:
    reference = _reference(source)
    described = _reference(source)
    described.SpatialLocationsPreserved = "NO"  # the standard's own example of NO is a magnified image
    described.PurposeOfReferenceCodeSequence = Sequence([_code(SOURCE_IMAGE)])
    header.SourceImageSequence = Sequence([described])
    # Common Instance Reference (PS3.3 C.12.2): series of what is referenced, and nothing else.
    own_series = Dataset()
    own_series.SeriesInstanceUID = source.SeriesInstanceUID
    own_series.ReferencedInstanceSequence = Sequence([reference])
    earlier = header.get("ReferencedSeriesSequence") or []
    if "ReferencedSeriesSequence" in header:
        del header.ReferencedSeriesSequence
    cited = set(_cited_instances(header)) - {str(source.SOPInstanceUID)}
    kept = [item for old in earlier if (item := _only_cited(old, cited)) is not None]
    header.ReferencedSeriesSequence = Sequence([*kept, own_series])


def _reference(source: Any) -> Dataset:
    reference = Dataset()
    reference.ReferencedSOPClassUID = source.SOPClassUID
    reference.ReferencedSOPInstanceUID = source.SOPInstanceUID
    return reference


def _cited_instances(dataset: Dataset) -> Iterator[str]:
    for tag in dataset.keys():  # noqa: SIM118 - a Dataset iterates over parsed elements
        if tag.is_private:
            continue
        element = dataset.get_item(tag)
        if element.VR == "SQ":
            for item in dataset[tag].value:
                yield str(item.get("ReferencedSOPInstanceUID", ""))
                yield from _cited_instances(item)


def _only_cited(series: Dataset, cited: set[str]) -> Dataset | None:
    instances = [
        item
        for item in series.get("ReferencedInstanceSequence") or []
        if str(item.get("ReferencedSOPInstanceUID", "")) in cited
    ]
    if not instances:
        return None
    kept = Dataset()
    kept.SeriesInstanceUID = series.SeriesInstanceUID
    kept.ReferencedInstanceSequence = Sequence(instances)
    return kept


def _add_equipment(header: Dataset, derivation: Derivation, now: datetime) -> None:
    """List the equipment: earlier contributors first, the scanner once, this tool last (PS3.3 C.12.1.1.5)."""
    items = list(header.get("ContributingEquipmentSequence") or [])
    if not any(_has_purpose(item, ACQUISITION_EQUIPMENT[0]) for item in items):
        items.append(_scanner(header))
    tool = _tool(derivation)
    tool.ContributionDateTime = f"{now:%Y%m%d%H%M%S.%f%z}"
    tool.ContributionDescription = derivation.description()
    tool.PurposeOfReferenceCodeSequence = Sequence([_code(PROCESSING_EQUIPMENT)])
    header.ContributingEquipmentSequence = Sequence([*items, tool])


def _has_purpose(item: Dataset, code: str) -> bool:
    return any(purpose.get("CodeValue") == code for purpose in item.get("PurposeOfReferenceCodeSequence") or [])


def _scanner(header: Dataset) -> Dataset:
    item = Dataset()
    for keyword in _SCANNER:
        element = header.get_item(keyword)
        if element is not None and element.value:
            item[keyword] = element
    if "Manufacturer" not in item:
        item.Manufacturer = "UNKNOWN"  # Type 1 in this macro, Type 2 in General Equipment
    item.PurposeOfReferenceCodeSequence = Sequence([_code(ACQUISITION_EQUIPMENT)])
    # As for all copies: claiming the encoding has the bytes written as they are.
    item.set_original_encoding(False, True, item._character_set)
    return item


def _tool(derivation: Derivation) -> Dataset:
    item = Dataset()
    item.Manufacturer = TOOL
    item.ManufacturerModelName = TOOL
    item.SoftwareVersions = [f"{TOOL} {__version__}", derivation.model_line()[-64:]]
    return item


def _become_the_equipment(header: Dataset) -> None:
    header.Manufacturer = TOOL
    for keyword, value in (("ManufacturerModelName", TOOL), ("SoftwareVersions", f"{TOOL} {__version__}")):
        if keyword in header:  # optional attributes are replaced, never added
            setattr(header, keyword, value)
    for keyword in _SCANNER_ONLY:
        if keyword in header:
            delattr(header, keyword)


def _appended(header: Dataset, keyword: str, item: Dataset) -> Sequence:
    return Sequence([*(header.get(keyword) or []), item])


def _code(code: tuple[str, str]) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = "DCM"
    return item
