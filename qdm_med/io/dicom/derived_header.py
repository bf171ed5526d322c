"""Header of a derived CT image: the source's patient and study, a new instance, the new grid (PS3.3 A.3)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any

import numpy as np
from pydicom.charset import python_encoding
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import format_number_as_ds

from qdm_med.io.derivation import Derivation, ascii_text
from qdm_med.io.dicom.explicit_vr import as_explicit_little_endian, raw_text
from qdm_med.io.dicom.grid_bound import grid_bound_tags
from qdm_med.io.dicom.header import LOSSY_SYNTAXES, SliceHeader
from qdm_med.io.dicom.provenance import add_provenance
from qdm_med.volume import subpixel_centre

DESCRIPTION_LENGTH = 64
"""Characters of an LO value (PS3.5 6.2)."""
LARGEST_IS = 2**31 - 1


@dataclass(frozen=True)
class DerivedSeries:
    """Values that all images of one derived series share.

    Attributes:
        run: Identity of the run, from which its UIDs follow, so that a resumed run keeps them.
        started: When the run began; carries a UTC offset.
        number: Series Number.
        derivation: Record of how the pixels are computed.
        private: ``"keep"`` or ``"drop"`` private elements.
        equipment: ``"keep"``: General Equipment stays the scanner's; ``"standard"``: it names this tool, as
            PS3.3 C.12.1.1.5 would have it. Both name both in Contributing Equipment.
        own_frame: Whether the images get a Frame of Reference of their own, for the source has one a slice.
    """

    run: uuid.UUID
    started: datetime
    number: int
    derivation: Derivation
    private: str = "keep"
    equipment: str = "keep"
    own_frame: bool = False

    @property
    def frame_uid(self) -> UID:
        """Frame of Reference UID of a series that has one of its own."""
        return UID(f"2.25.{uuid.uuid5(self.run, 'frame of reference').int}")

    @property
    def uid(self) -> UID:
        """Series Instance UID."""
        return UID(f"2.25.{self.run.int}")

    def instance_uid(self, index: int) -> UID:
        """SOP Instance UID of slice ``index``."""
        return UID(f"2.25.{uuid.uuid5(self.run, str(index)).int}")


def free_series_number(source: int | None, scale: int, taken: frozenset[int]) -> int:
    """Find a Series Number that no series of the study in the input has.

    >>> free_series_number(3, 4, frozenset({3, 304}))
    305
    """
    number = (source or 0) * 100 + scale
    if not 0 < number < LARGEST_IS - len(taken):
        number = scale
    while number in taken:
        number += 1
    return number


def derive_header(source: Any, series: DerivedSeries, index: int, told: SliceHeader | None = None) -> Dataset:
    """Derive the header of output slice ``index``; the source is not changed. Call it within ``quiet()``.

    Args:
        source: Parsed file of the source slice.
        series: Values that all slices share.
        index: Number of the slice, from 0.
        told: Corrections of the source's rescale by the user, if any.

    Returns:
        A data set without pixels and file meta information, ready for Explicit VR Little Endian.
    """
    header = as_explicit_little_endian(source, without=grid_bound_tags(source, private=series.private))
    _identify(header, series, index)
    _date(header, series.started)
    _refine_grid(header, series.derivation)
    if told is not None:
        _restate_rescale(header, told)
    if series.own_frame:
        header.FrameOfReferenceUID = series.frame_uid
    _note_lossy_source(header, source)
    add_provenance(header, source, series.derivation, _local(series.started, header), equipment=series.equipment)
    return header


def _identify(header: Dataset, series: DerivedSeries, index: int) -> None:
    """Give new pixels a new instance (PS3.3 C.7.6.1.1.2), in a series of its own (C.7.3.1)."""
    header.SOPInstanceUID = series.instance_uid(index)
    header.SeriesInstanceUID = series.uid
    header.SeriesNumber = series.number
    image_type = [ascii_text(str(value)) for value in _values(header.get("ImageType"))]
    header.ImageType = ["DERIVED", "SECONDARY", *(image_type[2:] or ["AXIAL"])]
    describe(header, series.derivation.label())


def describe(header: Dataset, suffix: str) -> None:
    """Add ASCII words to a series description, whose own words give way where there is no room for both."""
    element = header.get_item("SeriesDescription")
    value = (element.value if element is not None else None) or b""
    encoded = _clean(value.rstrip(b" \0"), header) if isinstance(value, bytes) else None
    if encoded is not None and len(encoded) + 1 + len(suffix) <= DESCRIPTION_LENGTH:
        # ASCII is valid in every character set, so the source's bytes need not be understood.
        header["SeriesDescription"] = raw_text(
            "SeriesDescription", "LO", b" ".join(filter(None, [encoded, suffix.encode()]))
        )
    else:
        text = str(header.SeriesDescription)[: DESCRIPTION_LENGTH - 1 - len(suffix)].rstrip()
        header.SeriesDescription = f"{text} {suffix}"


def _clean(encoded: bytes, header: Dataset) -> bytes:
    """Prepare a text for a new value: only its printable ASCII, if its own character set does not allow it."""
    charsets = [str(name) for name in _values(header.get("SpecificCharacterSet"))]
    escapes = b"\x1b" if any(name.startswith("ISO 2022") for name in charsets) else b""
    control = any(byte < 0x20 and byte not in escapes for byte in encoded)
    if control or not set(charsets) <= python_encoding.keys():
        return bytes(byte for byte in encoded if 0x20 <= byte < 0x7F)
    return encoded


def _date(header: Dataset, started: datetime) -> None:
    """Date the image; times without an offset are in TimezoneOffsetFromUTC, if there is one (PS3.3 C.12.1)."""
    now = _local(started, header)
    for name in ("InstanceCreation", "Content", "Series"):
        setattr(header, f"{name}Date", f"{now:%Y%m%d}")
        setattr(header, f"{name}Time", f"{now:%H%M%S.%f}")


def _local(moment: datetime, header: Dataset) -> datetime:
    return moment.astimezone(_offset(str(header.get("TimezoneOffsetFromUTC") or "")))


def _offset(text: str) -> tzinfo | None:
    """Read ``"+0530"`` as a time zone; ``None``, the machine's zone, for anything else.

    >>> _offset("-0330")
    datetime.timezone(datetime.timedelta(days=-1, seconds=73800))
    """
    sign, digits = text[:1], text[1:].strip()
    if sign not in ("+", "-") or len(digits) != 4 or not digits.isdigit() or int(digits) > 1400:
        return None
    minutes = 60 * int(digits[:2]) + int(digits[2:])
    return timezone(timedelta(minutes=-minutes if sign == "-" else minutes))


def _refine_grid(header: Dataset, derivation: Derivation) -> None:
    """Move ImagePositionPatient to the centre of the new first pixel; the edges stay (PS3.3 C.7.6.2.1.1)."""
    row_spacing, column_spacing = (float(value) for value in header.PixelSpacing)
    row_direction, column_direction = np.array([float(x) for x in header.ImageOrientationPatient]).reshape(2, 3)
    first = np.array([float(x) for x in header.ImagePositionPatient])
    rows, columns = derivation.matrix_of(header.Rows, header.Columns)
    down, right = rows / header.Rows, columns / header.Columns  # new pixels an old one
    first += subpixel_centre(right) * column_spacing * row_direction
    first += subpixel_centre(down) * row_spacing * column_direction
    header.Rows, header.Columns = rows, columns
    header.PixelSpacing = [format_number_as_ds(spacing) for spacing in (row_spacing / down, column_spacing / right)]
    header.ImagePositionPatient = [format_number_as_ds(float(x)) for x in first]


def _restate_rescale(header: Dataset, told: SliceHeader) -> None:
    """State in DICOM's terms what the user said of the source: that its values are HU, or HU less an offset."""
    intercept = told.rescale[1]
    if intercept is not None and intercept != float(header.RescaleIntercept):
        header.RescaleIntercept = format_number_as_ds(intercept)
    if header.get("RescaleType") and told.rescale_type == "HU":
        header.RescaleType = "HU"


def _note_lossy_source(header: Dataset, source: Any) -> None:
    """Keep the mark of lossy compression: once lossy, always lossy (PS3.3 C.7.6.1.1.5)."""
    if source.file_meta.TransferSyntaxUID in LOSSY_SYNTAXES:
        header.LossyImageCompression = "01"
    elif "LossyImageCompression" in header and not header.LossyImageCompression:
        del header.LossyImageCompression  # an empty flag says neither 00 nor 01, which is all that it may say


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str) else list(value)
