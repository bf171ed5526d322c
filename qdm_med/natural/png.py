"""PNG written row by row, 8 or 16 bits a sample, so that no image has to be in memory whole (ISO/IEC 15948)."""

from __future__ import annotations

import struct
import zlib
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_COLOUR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}
"""Channels -> colour type: grey, grey with alpha, RGB, RGB with alpha."""

_PAETH = 4
"""Filter type of every row."""

_BATCH = 32
"""Rows that are filtered at once."""


class PngWriter:
    """Writer of one PNG image into an open file.

    Args:
        file: The open file.
        rows: Rows of the image.
        columns: Columns of the image.
        channels: 1 to 4: grey or RGB, with alpha or without.
        bits: 8 or 16.
        icc: ICC profile, if there is one.
        exif: EXIF block, if there is one, with or without its ``Exif`` header.
    """

    def __init__(
        self,
        file: BinaryIO,
        rows: int,
        columns: int,
        channels: int,
        bits: int,
        *,
        icc: bytes | None = None,
        exif: bytes | None = None,
    ) -> None:
        self._file, self._left = file, rows
        self._stride, self._pixel = columns * channels * bits // 8, channels * bits // 8
        self._above: NDArray[np.uint8] = np.zeros(self._stride, dtype=np.uint8)
        self._packer = zlib.compressobj(6)
        file.write(b"\x89PNG\r\n\x1a\n")
        self._chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, bits, _COLOUR_TYPES[channels], 0, 0, 0))
        if icc is not None:
            self._chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(icc))
        if exif is not None:
            self._chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))

    def write(self, rows: NDArray[Any]) -> None:
        """Append ``(n, columns, channels)`` uint8 or uint16."""
        data = np.ascontiguousarray(rows.astype(rows.dtype.newbyteorder(">"), copy=False))
        stored = data.reshape(len(rows), -1).view(np.uint8)  # (n, bytes of a row)
        for start in range(0, len(stored), _BATCH):
            part = stored[start : start + _BATCH]
            if packed := self._packer.compress(self._filtered(part)):
                self._chunk(b"IDAT", packed)
        self._left -= len(rows)

    def finish(self) -> None:
        """Write the end of the image.

        Raises:
            RuntimeError: If not all rows were written.
        """
        if self._left:
            raise RuntimeError(f"{self._left} rows of the image are missing")
        self._chunk(b"IDAT", self._packer.flush())
        self._chunk(b"IEND", b"")

    def _filtered(self, rows: NDArray[np.uint8]) -> bytes:
        """Predict rows from their neighbours and keep the differences, each row behind its filter type (9.4)."""
        up = np.concatenate([self._above[None], rows[:-1]]).astype(np.int16)
        left, corner = np.zeros_like(up), np.zeros_like(up)
        left[:, self._pixel :], corner[:, self._pixel :] = rows[:, : -self._pixel], up[:, : -self._pixel]
        to_left, to_up, to_corner = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
        nearest = np.where(to_up <= to_corner, up, corner)
        nearest = np.where((to_left <= to_up) & (to_left <= to_corner), left, nearest)
        filtered = np.empty((len(rows), self._stride + 1), dtype=np.uint8)
        filtered[:, 0], filtered[:, 1:] = _PAETH, rows - nearest.astype(np.uint8)
        self._above = rows[-1].copy()
        return filtered.tobytes()

    def _chunk(self, name: bytes, data: bytes) -> None:
        checksum = zlib.crc32(data, zlib.crc32(name))
        self._file.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum))
