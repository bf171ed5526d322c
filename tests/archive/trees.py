"""Small trees of CT series, and what an archive of them holds."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid


def write_series(folder: Path, name: str, *, slices: int = 2, rows: int = 24, columns: int = 32) -> None:
    """Write a CT series of its own patient; its UIDs and pixels depend on ``name`` alone."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    pixels = dataset.pixel_array
    shift = int(hashlib.sha256(name.encode()).hexdigest(), 16) % 40
    dataset.Rows, dataset.Columns = rows, columns
    dataset.PatientID = dataset.PatientName = name
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = (
        generate_uid(entropy_srcs=[name, kind]) for kind in ("study", "series", "frame")
    )
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(slices):
        part = pixels[shift + index : shift + index + min(rows, 64), shift : shift + min(columns, 64)]
        part = np.kron(part, np.ones((max(1, rows // 64), max(1, columns // 64)), part.dtype))  # for large ones
        dataset.PixelData = np.ascontiguousarray(part).tobytes()
        uid = generate_uid(entropy_srcs=[name, str(index)])
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.ImagePositionPatient = [-158.0, -179.0, -75.0 + 5 * index]
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / f"{index:03d}.dcm")


def write_tree(root: Path, count: int, **shape: int) -> Path:
    """Write ``count`` series, each in the folder of its patient."""
    for number in range(count):
        write_series(root / f"p{number:03d}" / "ct", f"patient-{number}", **shape)
    return root


def stored(root: Path) -> dict[str, str]:
    """Digest of the stored pixels of every DICOM file of an archive, by path."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(pydicom.dcmread(path).PixelData).hexdigest()
        for path in sorted(root.rglob("*.dcm"))
    }


def hidden(root: Path) -> list[str]:
    """What a run left beside outputs and receipts."""
    return [
        path.relative_to(root).as_posix() for path in sorted(root.rglob(".*")) if ".qdm-med-archive" not in path.parts
    ]
