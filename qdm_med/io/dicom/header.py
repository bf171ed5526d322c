"""Header of a DICOM object, as far as it is needed before the pixels: small, so that a tree of files fits into memory."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL
from qdm_med.io.dicom.file import damaged, quiet, read_dataset, shown, uid_name
from qdm_med.io.dicom.rescale import PixelFormat

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = ("1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"
LOSSY_SYNTAXES = tuple(f"1.2.840.10008.1.2.4.{number}" for number in (50, 51, 81, 91, 203))
READABLE_SYNTAXES = (
    *(
        "1.2.840.10008.1.2.1",
        "1.2.840.10008.1.2",
        "1.2.840.10008.1.2.1.99",
        "1.2.840.10008.1.2.2",
        "1.2.840.10008.1.2.5",
    ),
    *(f"1.2.840.10008.1.2.4.{number}" for number in (57, 70, 80, 90, 201, 202, 51, 81, 91, 203)),
)
"""Transfer syntaxes that can be decoded: uncompressed, RLE, JPEG Lossless, JPEG-LS, JPEG 2000, HTJ2K; lossy ones last."""
LARGEST_THICKNESS_MM = 1e4
"""A slice thicker than any scanner is long tells nothing."""

PATIENT = ("PatientID", "PatientName", "PatientBirthDate")
_TAGS = [
    *("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "SeriesNumber", "InstanceNumber"),
    *("SeriesDescription", "StudyDate"),
    *("ImageType", "Modality", "FrameOfReferenceUID", "ImagePositionPatient", "ImageOrientationPatient"),
    *("PixelSpacing", "SliceThickness", "GantryDetectorTilt", "Rows", "Columns", "NumberOfFrames"),
    *("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("RescaleSlope", "RescaleIntercept", "RescaleType", "KVP", "ConvolutionKernel", "LossyImageCompression"),
    *("BurnedInAnnotation", "RecognizableVisualFeatures", "ContributingEquipmentSequence", "SpecificCharacterSet"),
    *PATIENT,
]

Numbers = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SliceHeader:
    """Header of one DICOM object; values that are absent or unusable are ``None`` or empty.

    Attributes:
        path: The file.
        sop_class: SOP Class UID.
        sop_uid: SOP Instance UID.
        study_uid: Study Instance UID.
        series_uid: Series Instance UID.
        frame_uid: Frame of Reference UID.
        transfer_syntax: Transfer Syntax UID.
        patient: Digest of name, ID and birth date: tells patients apart without naming them.
        image_type: Values of Image Type.
        series_number: Series Number.
        instance_number: Instance Number.
        position: Centre of the first pixel, LPS mm.
        orientation: Row direction (along which the column index grows), then column direction; 6 numbers.
        spacing: Distance between rows, then between columns, mm.
        thickness: Slice thickness in mm.
        tilt: Gantry tilt in degrees.
        rows: Rows.
        columns: Columns.
        frames: Frames.
        samples: Samples per pixel.
        photometric: Photometric interpretation.
        bits: Bits allocated, bits stored, high bit, pixel representation.
        rescale: Slope and intercept.
        rescale_type: Unit of the rescaled values, upper case.
        padding: Pixel padding value and range limit, smaller first.
        kvp: Tube voltage in kV.
        kernel: Convolution kernel.
        lossy: Whether the pixels went through lossy compression.
        character_sets: Values of Specific Character Set.
        burned_in: Whether the pixels are said to show text or a face.
        derived_by_us: Whether this tool made the object.
        description: Series Description.
        study_date: Study Date, ``YYYYMMDD``.
        said_type: Rescale Type of the file where the user knows better; else empty.
    """

    path: Path
    sop_class: str
    sop_uid: str
    study_uid: str
    series_uid: str
    frame_uid: str
    transfer_syntax: str
    patient: str
    image_type: tuple[str, ...]
    series_number: int | None
    instance_number: int | None
    position: Numbers | None
    orientation: Numbers | None
    spacing: Numbers | None
    thickness: float | None
    tilt: float | None
    rows: int | None
    columns: int | None
    frames: int
    samples: int | None
    photometric: str
    bits: tuple[int | None, int | None, int | None, int | None]
    rescale: tuple[float | None, float | None]
    rescale_type: str
    padding: tuple[int, int] | None
    kvp: float | None
    kernel: str
    lossy: bool
    character_sets: tuple[str, ...]
    burned_in: bool
    derived_by_us: bool
    description: str = ""
    study_date: str = ""
    said_type: str = ""

    @property
    def kind(self) -> str:
        """Kind of the object, in words."""
        if self.is_localizer:
            return "CT localizer"
        return uid_name(self.sop_class) if self.sop_class.startswith("1.2.840.10008.") else "object of a private class"

    @property
    def is_localizer(self) -> bool:
        """Whether it is a scout view (PS3.3 C.8.2.1.1.1)."""
        return self.sop_class == CT_IMAGE and "LOCALIZER" in self.image_type

    @property
    def is_ct(self) -> bool:
        """Whether it is CT, of a kind that can be read or of one that is refused by name."""
        return self.sop_class in (CT_IMAGE, *ENHANCED_CT) and not self.is_localizer

    def axes(self) -> NDArray[np.float64]:
        """``(3, 3)``: slice normal, column direction (row index grows), row direction (column index grows)."""
        row_direction, column_direction = np.array(self.orientation, dtype=np.float64).reshape(2, 3)
        return np.stack([np.cross(row_direction, column_direction), column_direction, row_direction])

    def pixel_format(self) -> PixelFormat:
        """Meaning of the stored values; only for headers that passed the checks."""
        _, bits_stored, _, representation = self.bits
        slope, intercept = self.rescale
        if bits_stored is None or slope is None or intercept is None:
            raise SeriesError(f"{shown(self.path)}: pixel description is incomplete")
        return PixelFormat(bits_stored, representation == 1, slope, intercept, self.padding)


def read_slice_header(path: Path, file: BinaryIO | None = None) -> SliceHeader | None:
    """Read the header of a DICOM file; ``None`` for a DICOMDIR, which is no object but a list of files.

    Args:
        path: The file.
        file: The same file where it is open already.

    Raises:
        SeriesError: If the file is damaged or its header is cut short.
    """
    dataset = read_dataset(path, tags=_TAGS, file=file)
    try:
        with quiet():
            sop_class = _text(dataset, "SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
            if sop_class == MEDIA_DIRECTORY:
                return None
            _require_uids(path, dataset, sop_class)
            return _header(path, dataset, sop_class)
    except SeriesError:
        raise
    except Exception as error:  # elements are interpreted when they are asked for, and may be anything
        raise damaged(path, error) from error


def _require_uids(path: Path, dataset: Any, sop_class: str) -> None:
    needed = ["SOPInstanceUID", "SeriesInstanceUID"] if sop_class in (CT_IMAGE, *ENHANCED_CT) else ["SOPInstanceUID"]
    present = all(_text(dataset, keyword) for keyword in needed)
    if not (sop_class and present and dataset.file_meta.get("TransferSyntaxUID")):
        raise SeriesError(
            f"{shown(path)}: DICOM header without the UIDs of class, instance, series or transfer syntax, the file is "
            "cut short; copy it again from its origin or move it away"
        )


def _header(path: Path, dataset: Any, sop_class: str) -> SliceHeader:
    transfer_syntax = str(dataset.file_meta.TransferSyntaxUID)
    signed = _integer(dataset, "PixelRepresentation") == 1
    return SliceHeader(
        path=path,
        sop_class=sop_class,
        sop_uid=_text(dataset, "SOPInstanceUID"),
        study_uid=_text(dataset, "StudyInstanceUID"),
        series_uid=_text(dataset, "SeriesInstanceUID"),
        frame_uid=_text(dataset, "FrameOfReferenceUID"),
        transfer_syntax=transfer_syntax,
        patient=_patient(dataset),
        image_type=tuple(str(value).strip() for value in _values(dataset, "ImageType")),
        series_number=_integer(dataset, "SeriesNumber"),
        instance_number=_integer(dataset, "InstanceNumber"),
        position=_numbers(dataset, "ImagePositionPatient", 3),
        orientation=_numbers(dataset, "ImageOrientationPatient", 6),
        spacing=_numbers(dataset, "PixelSpacing", 2),
        thickness=_thickness(dataset),
        tilt=_number(dataset, "GantryDetectorTilt"),
        rows=_integer(dataset, "Rows"),
        columns=_integer(dataset, "Columns"),
        frames=_integer(dataset, "NumberOfFrames") or 1,
        samples=_integer(dataset, "SamplesPerPixel"),
        photometric=_text(dataset, "PhotometricInterpretation"),
        bits=(
            _integer(dataset, "BitsAllocated"),
            _integer(dataset, "BitsStored"),
            _integer(dataset, "HighBit"),
            _integer(dataset, "PixelRepresentation"),
        ),
        rescale=(_number(dataset, "RescaleSlope"), _number(dataset, "RescaleIntercept")),
        rescale_type=_text(dataset, "RescaleType").upper(),
        padding=_padding(dataset, signed=signed),
        kvp=_number(dataset, "KVP"),
        kernel="/".join(str(value) for value in _values(dataset, "ConvolutionKernel")),
        lossy=_text(dataset, "LossyImageCompression") == "01" or transfer_syntax in LOSSY_SYNTAXES,
        character_sets=tuple(str(value) for value in _values(dataset, "SpecificCharacterSet")),
        burned_in="YES" in (_text(dataset, "BurnedInAnnotation"), _text(dataset, "RecognizableVisualFeatures")),
        derived_by_us=_derived_by_us(dataset),
        description=_text(dataset, "SeriesDescription"),
        study_date=_text(dataset, "StudyDate"),
    )


def _thickness(dataset: Any) -> float | None:
    thickness = _number(dataset, "SliceThickness")
    return thickness if thickness is not None and 0 < thickness < LARGEST_THICKNESS_MM else None


def _padding(dataset: Any, *, signed: bool) -> tuple[int, int] | None:
    # The VR is "US or SS": some writers store -2000 as 63536, so the 16 bits are read as PixelRepresentation says.
    value = _integer(dataset, "PixelPaddingValue")
    if value is None:
        return None
    limit = _integer(dataset, "PixelPaddingRangeLimit")
    ends = [number & 0xFFFF for number in (value, value if limit is None else limit)]
    if signed:
        ends = [end - 0x10000 if end >= 0x8000 else end for end in ends]
    return min(ends), max(ends)


def _derived_by_us(dataset: Any) -> bool:
    items = _values(dataset, "ContributingEquipmentSequence")
    return any(_text(item, "ManufacturerModelName") == TOOL for item in items)


def _patient(dataset: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for keyword in PATIENT:
        element = dataset.get_item(keyword, keep_deferred=True)
        value = b"" if element is None or element.value is None else element.value
        digest.update((value if isinstance(value, bytes) else str(value).encode()).strip(b" \0") + b"\0")
    return digest.hexdigest()


def _values(dataset: Any, keyword: str) -> list[Any]:
    try:
        value = dataset.get(keyword)
    except Exception:  # bytes that are no value of the attribute's kind, which pydicom reports in many ways
        return []
    if value is None or value == "":
        return []
    return [value] if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__") else list(value)


def _text(dataset: Any, keyword: str) -> str:
    values = _values(dataset, keyword)
    return str(values[0]).strip(" \0") if len(values) == 1 else ""


def _numbers(dataset: Any, keyword: str, count: int) -> Numbers | None:
    try:
        numbers = tuple(float(value) for value in _values(dataset, keyword))
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and all(math.isfinite(number) for number in numbers) else None


def _number(dataset: Any, keyword: str) -> float | None:
    numbers = _numbers(dataset, keyword, 1)
    return None if numbers is None else numbers[0]


def _integer(dataset: Any, keyword: str) -> int | None:
    number = _number(dataset, keyword)
    return int(number) if number is not None and number == int(number) else None
