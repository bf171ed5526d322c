"""Pixel data of one DICOM file, decoded; the decoders are pydicom's plugins (PS3.5 section 8)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom.pixels
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import quiet, read_dataset, shown, uid_name


def decode_stored(dataset: Any, path: Path) -> NDArray[np.int32]:
    """Decode the stored values of a single-frame image of 16 bits allocated.

    Bits above HighBit hold embedded overlays or rubbish (PS3.5 8.1.1) and are cleared; the sign comes from
    PixelRepresentation.

    Args:
        dataset: The parsed file.
        path: Path of the file, for messages.

    Returns:
        ``(rows, columns)`` int32.

    Raises:
        SeriesError: If pixel data are absent, cut short or not decodable.
    """
    if "PixelData" not in dataset:
        raise SeriesError(f"{shown(path)}: has no pixel data, the file is cut short; copy it again from its origin")
    try:
        with quiet():
            pixels = pydicom.pixels.pixel_array(dataset, raw=True)
    except Exception as error:  # one of four decoder libraries met arbitrary bytes
        syntax = uid_name(str(dataset.file_meta.TransferSyntaxUID))
        raise SeriesError(
            f"{shown(path)}: pixel data ({syntax}) cannot be decoded, cut short or corrupt; copy it again from its origin"
        ) from error
    if pixels.shape != (dataset.Rows, dataset.Columns):
        raise SeriesError(
            f"{shown(path)}: pixel data of shape {pixels.shape} do not fit {dataset.Rows} rows x {dataset.Columns} "
            "columns; copy it again from its origin"
        )
    return _own_bits(pixels.astype(np.int32), dataset.BitsStored, signed=dataset.PixelRepresentation == 1)


def _own_bits(pixels: NDArray[np.int32], bits: int, *, signed: bool) -> NDArray[np.int32]:
    values = pixels & ((1 << bits) - 1)
    return np.where(values >> (bits - 1), values - (1 << bits), values) if signed else values


def decompressed(path: Path) -> Any:
    """Parse a file and decode its pixels: the same instance, uncompressed.

    Raises:
        SeriesError: If the file is damaged or its pixels cannot be decoded.
    """
    dataset = read_dataset(path)
    try:
        with quiet():
            dataset.decompress(generate_instance_uid=False)
    except Exception as error:  # one of four decoder libraries met arbitrary bytes
        syntax = uid_name(str(dataset.file_meta.TransferSyntaxUID))
        raise SeriesError(
            f"{shown(path)}: pixel data ({syntax}) cannot be decoded; copy it again from its origin"
        ) from error
    return dataset


def is_compressed(transfer_syntax: str) -> bool:
    """Whether a transfer syntax encapsulates the pixels."""
    return transfer_syntax.startswith(("1.2.840.10008.1.2.4.", "1.2.840.10008.1.2.5"))
