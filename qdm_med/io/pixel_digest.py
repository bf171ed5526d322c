"""Digests of an output's pixels, by which two outputs are compared regardless of their times and UIDs."""

from __future__ import annotations

import hashlib
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import Content, read_dataset, shown, sniff


def pixel_digests(out: Path) -> dict[str, str]:
    """SHA-256 of the pixel data of every image, by file name.

    Of a DICOM file the value of its pixel element is taken, of any other file all bytes: our writers give the same
    voxels the same bytes.

    Args:
        out: Folder of DICOM images, or a volume file.

    Raises:
        SeriesError: If there is nothing there, or an image cannot be read.
    """
    if not out.exists():
        raise SeriesError(f"{shown(out)}: no such file or folder; it was moved away or never made")
    files = sorted(out.iterdir()) if out.is_dir() else [out]
    return {path.name: _digest(path) for path in files}


def _digest(path: Path) -> str:
    if sniff(path) is not Content.DICOM:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    dataset = read_dataset(path)
    name = next((n for n in ("PixelData", "FloatPixelData", "DoubleFloatPixelData") if n in dataset), None)
    if name is None:
        raise SeriesError(f"{shown(path)}: has no pixel data, the file is cut short; make the series again")
    return hashlib.sha256(dataset[name].value).hexdigest()
