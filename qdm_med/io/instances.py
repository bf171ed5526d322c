"""DICOM files of a folder, told apart by content: which are CT slices, and what is known of each before its pixels."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.uid import UID

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
DICOMDIR = "1.2.840.10008.1.3.10"

HEADER_TAGS = [
    "BitsAllocated",
    "BitsStored",
    "BurnedInAnnotation",
    "Columns",
    "ContributingEquipmentSequence",
    "ConvolutionKernel",
    "FrameOfReferenceUID",
    "GantryDetectorTilt",
    "HighBit",
    "ImageOrientationPatient",
    "ImagePositionPatient",
    "ImageType",
    "KVP",
    "Manufacturer",
    "Modality",
    "NumberOfFrames",
    "PatientID",
    "PatientName",
    "PhotometricInterpretation",
    "PixelRepresentation",
    "PixelSpacing",
    "RescaleIntercept",
    "RescaleSlope",
    "RescaleType",
    "Rows",
    "SamplesPerPixel",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SliceThickness",
    "SOPClassUID",
    "SOPInstanceUID",
    "SpecificCharacterSet",
    "StudyInstanceUID",
]
"""Attributes that decide whether and how a slice is read."""


@dataclass(frozen=True)
class Instance:
    """One DICOM image file, as much of it as must be kept for every slice of a series.

    Attributes:
        path: The file.
        sop_class_uid: Kind of object.
        sop_instance_uid: Identity.
        study_uid: Study.
        series_uid: Series.
        series_number: Series number; ``None`` if absent.
        patient: Hash of patient name and ID, to tell patients apart without keeping them.
        frame_of_reference_uid: Frame of reference; ``None`` if absent.
        transfer_syntax: Encoding of the file.
        image_type: ImageType, upper case.
        frames: Number of frames.
        matrix: Rows and columns; 0 where absent.
        spacing: Row and column spacing in mm; ``None`` if absent or not two numbers.
        position: Centre of the first pixel in LPS mm; ``None`` if absent.
        orientation: Direction cosines of row and column, ``(2, 3)``; ``None`` if absent.
        tilt: Gantry tilt in degrees; 0 where absent.
        thickness: Slice thickness in mm; ``None`` if absent.
        kernel: Reconstruction kernel; empty where absent.
        kvp: Tube voltage; empty where absent.
        manufacturer: Vendor; empty where absent.
        burned_in: Whether BurnedInAnnotation is YES.
        made_by_us: Whether this tool contributed to it.
        refusal: Why the pixels cannot be read as HU; empty if they can.
    """

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    study_uid: str
    series_uid: str
    series_number: int | None
    patient: int
    frame_of_reference_uid: str | None
    transfer_syntax: str
    image_type: tuple[str, ...]
    frames: int
    matrix: tuple[int, int]
    spacing: tuple[float, float] | None
    position: NDArray[np.float64] | None
    orientation: NDArray[np.float64] | None
    tilt: float
    thickness: float | None
    kernel: str
    kvp: str
    manufacturer: str
    burned_in: bool
    made_by_us: bool
    refusal: str

    @property
    def kind(self) -> str:
        """What sort of object this is, in words."""
        if self.sop_class_uid == CT_IMAGE_STORAGE:
            return "CT localizer" if "LOCALIZER" in self.image_type else "CT image"
        return UID(self.sop_class_uid).name


def walk(folder: Path, exclude: Path | None = None) -> Iterator[Path]:
    """Every regular file below ``folder``, in a stable order; symbolic links are followed, loops are not.

    Args:
        folder: Folder to walk.
        exclude: Output folder of this run: it and what an interrupted run left beside it are passed over.
    """
    outputs = set()
    if exclude is not None:
        outputs = {exclude.resolve(), (exclude.parent / f".{exclude.name}.partial").resolve()}
    seen: set[str] = set()
    for root, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(root)
        if real in seen or Path(real) in outputs:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(files):
            path = Path(root, name)
            if path.is_file():
                yield path


def read_instance(path: Path) -> Instance | None:
    """Read what a DICOM file says of itself; ``None`` if it is no DICOM file or a DICOMDIR.

    Raises:
        SeriesError: If the file says that it is DICOM and cannot be read.
    """
    if not looks_like_dicom(path):
        return None
    header = read_header(path, HEADER_TAGS)
    if header.file_meta.get("MediaStorageSOPClassUID") == DICOMDIR:
        return None
    if not header.get("SOPInstanceUID") or not header.get("SOPClassUID"):
        raise SeriesError(
            f"{path}: DICOM header without SOPInstanceUID or SOPClassUID; the file is cut short or damaged"
        )
    return _instance(path, header)


def looks_like_dicom(path: Path) -> bool:
    """Whether a file starts as DICOM does: with the magic word, or with a group 0002 or 0008 element (PS3.10)."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError as error:
        raise SeriesError(f"{path}: {error.strerror}; make the file readable or leave it out") from None
    if start[128:132] == b"DICM":
        return True
    return len(start) >= 8 and start[:4] in (
        b"\x08\x00\x00\x00",
        b"\x08\x00\x05\x00",
        b"\x08\x00\x08\x00",
        b"\x02\x00\x00\x00",
    )


def read_header(path: Path, tags: list[str] | None = None) -> Any:
    """Read a file's data set up to its pixels.

    Raises:
        SeriesError: If the file is damaged.
    """
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=tags, force=True)
        _ = [element.value for element in header] if tags else None  # values are converted late: find damage now
    except (
        InvalidDicomError,
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        NotImplementedError,
        OverflowError,
        struct.error,
        EOFError,
        RecursionError,
    ) as error:
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise SeriesError(f"{path}: damaged DICOM file ({reason}); take it out or copy it again") from None
    if "TransferSyntaxUID" not in header.file_meta:
        # PS3.10 asks for it; without it only the default encoding can be meant, and pydicom has read it as such.
        header.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2")
    return header


def _instance(path: Path, header: Any) -> Instance:
    rows, columns = (int(header.get(name) or 0) for name in ("Rows", "Columns"))
    thickness = _numbers(header, "SliceThickness", 1)
    number = _numbers(header, "SeriesNumber", 1)
    tilt = _numbers(header, "GantryDetectorTilt", 1)
    spacing, orientation = _numbers(header, "PixelSpacing", 2), _numbers(header, "ImageOrientationPatient", 6)
    return Instance(
        path=path,
        sop_class_uid=str(header.SOPClassUID),
        sop_instance_uid=str(header.SOPInstanceUID),
        study_uid=str(header.get("StudyInstanceUID", "")),
        series_uid=str(header.get("SeriesInstanceUID", "")),
        series_number=None if number is None else int(number[0]),
        patient=hash((str(header.get("PatientID", "")), str(header.get("PatientName", "")))),
        frame_of_reference_uid=str(header.get("FrameOfReferenceUID") or "") or None,
        transfer_syntax=str(header.file_meta.TransferSyntaxUID),
        image_type=tuple(str(value).upper() for value in _values(header.get("ImageType"))),
        frames=int(header.get("NumberOfFrames") or 1),
        matrix=(rows, columns),
        spacing=None if spacing is None else (float(spacing[0]), float(spacing[1])),
        position=_numbers(header, "ImagePositionPatient", 3),
        orientation=None if orientation is None else orientation.reshape(2, 3),
        tilt=0.0 if tilt is None else float(tilt[0]),
        thickness=None if thickness is None else float(thickness[0]),
        kernel=" ".join(map(str, _values(header.get("ConvolutionKernel")))),
        kvp=str(header.get("KVP") or ""),
        manufacturer=str(header.get("Manufacturer") or ""),
        burned_in=str(header.get("BurnedInAnnotation", "")).upper() == "YES",
        made_by_us=any(
            item.get("ManufacturerModelName") == TOOL for item in header.get("ContributingEquipmentSequence") or []
        ),
        refusal=refusal_of(header),
    )


def _values(value: Any) -> list[Any]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | pydicom.multival.MultiValue) else [value]


def _numbers(header: Any, name: str, count: int) -> NDArray[np.float64] | None:
    """``count`` finite numbers of an attribute; ``None`` if there are others."""
    try:
        numbers = np.array([float(value) for value in _values(header.get(name))])
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count and np.isfinite(numbers).all() else None


def refusal_of(header: Any) -> str:
    """Why the pixels of an image cannot be read as HU on a known grid; empty if they can (DICOM.md section 7)."""
    slope, intercept = (_numbers(header, name, 1) for name in ("RescaleSlope", "RescaleIntercept"))
    spacing, orientation = _numbers(header, "PixelSpacing", 2), _numbers(header, "ImageOrientationPatient", 6)
    bits_stored = int(header.get("BitsStored") or 0)
    rules = (
        (int(header.get("Rows") or 0) > 0 and int(header.get("Columns") or 0) > 0, "Rows or Columns missing"),
        (
            spacing is not None and bool((spacing > 0).all()),
            f"PixelSpacing {header.get('PixelSpacing')} is not two positive numbers",
        ),
        (
            _numbers(header, "ImagePositionPatient", 3) is not None,
            "ImagePositionPatient missing: the slice has no place",
        ),
        (
            orientation is not None and _is_orthonormal(orientation),
            f"ImageOrientationPatient {header.get('ImageOrientationPatient')} is not two orthogonal unit vectors",
        ),
        (
            slope is not None and slope[0] != 0,
            f"RescaleSlope {header.get('RescaleSlope')}: stored values cannot be read as HU",
        ),
        (
            intercept is not None,
            f"RescaleIntercept {header.get('RescaleIntercept')}: stored values cannot be read as HU",
        ),
        (str(header.get("RescaleType") or "HU") == "HU", f"RescaleType {header.get('RescaleType')} is not HU"),
        (
            int(header.get("SamplesPerPixel") or 1) == 1,
            f"SamplesPerPixel {header.get('SamplesPerPixel')}: colour is not CT",
        ),
        (
            str(header.get("PhotometricInterpretation", "")) in ("MONOCHROME1", "MONOCHROME2"),
            f"PhotometricInterpretation {header.get('PhotometricInterpretation')} is not MONOCHROME1 or MONOCHROME2",
        ),
        (int(header.get("BitsAllocated") or 0) == 16, f"BitsAllocated {header.get('BitsAllocated')} is not 16"),
        (
            8 <= bits_stored <= 16 and int(header.get("HighBit") or bits_stored - 1) == bits_stored - 1,
            f"BitsStored {header.get('BitsStored')} with HighBit {header.get('HighBit')}",
        ),
        (
            header.get("PixelRepresentation") in (0, 1),
            f"PixelRepresentation {header.get('PixelRepresentation')} is neither 0 nor 1",
        ),
    )
    return next((said for good, said in rules if not good), "")


def _is_orthonormal(orientation: NDArray[np.float64]) -> bool:
    row, column = orientation.reshape(2, 3)
    lengths = np.linalg.norm(row), np.linalg.norm(column)
    return bool(np.allclose(lengths, 1, atol=1e-2) and abs(row @ column) < 1e-2)
