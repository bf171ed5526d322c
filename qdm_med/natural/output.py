"""Photographs written band by band, with the metadata of the source, and put in place only when complete."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qdm_med.errors import DataError
from qdm_med.files import partial_path, sync_folder
from qdm_med.io.output.place import check_file
from qdm_med.natural.formats import SUFFIXES
from qdm_med.natural.images import Photo
from qdm_med.natural.png import PngWriter

SOFTWARE, WIDTH, HEIGHT, EXIF_BLOCK = 0x0131, 0xA002, 0xA003, 0x8769
"""EXIF tags (CIPA DC-008)."""

LARGEST_SIDE = {".jpg": 65_535, ".jpeg": 65_535, ".webp": 16_383}
"""Pixels that the formats count; PNG counts further than anybody can wait."""

QUALITY = 95
"""Quality of JPEG and WebP."""


class PhotoWriter:
    """Writer of a photograph that grows row by row.

    PNG keeps the source's bits and never holds more than a band; JPEG and WebP have 8 bits and are encoded at the end
    from a temporary file.

    Args:
        source: The original photograph, for its profile, EXIF, bits, alpha and grey.
        out: File to create, of any of the three formats.
        scale: Magnification.
        software: Text of EXIF's Software.
        overwrite: Whether a file there may be replaced.

    Raises:
        DataError: If the format cannot hold it.
        SeriesError: If the place is invalid.
    """

    def __init__(self, source: Photo, out: Path, *, scale: int, software: str, overwrite: bool = False) -> None:
        suffix = out.suffix.lower()
        if suffix not in SUFFIXES:
            raise DataError(f"{out}: must end in one of {', '.join(SUFFIXES)}")
        self.out = check_file(out, [source.path], SUFFIXES, overwrite=overwrite)
        self._rows, self._columns = (side * scale for side in source.size)
        if source.alpha is not None and suffix in (".jpg", ".jpeg"):
            raise DataError(f"{out}: JPEG has no transparency, {source.path.name} has; write .png or .webp")
        if (largest := LARGEST_SIDE.get(suffix)) and max(self._rows, self._columns) > largest:
            raise DataError(f"{out}: {self._columns}x{self._rows} pixels are too many for {suffix}; write .png")
        self.dtype: type[np.generic] = source.colour.dtype.type if suffix == ".png" else np.uint8
        self._channels = source.colour.shape[2] + (source.alpha is not None)
        self._icc, self._exif = source.icc, _exif(source, software, self._rows, self._columns)
        self._partial = partial_path(self.out)
        self._png: PngWriter | None = None
        self._pixels: NDArray[Any] | None = None
        self._at = 0

    def __enter__(self) -> Self:
        """Open the partial file."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self._photo_file = self._partial.open("wb")
        if self.out.suffix.lower() == ".png":
            bits = 8 * np.dtype(self.dtype).itemsize
            shape = (self._rows, self._columns, self._channels, bits)
            self._png = PngWriter(self._photo_file, *shape, icc=self._icc, exif=self._exif)
        else:
            with TemporaryFile(dir=self.out.parent) as behind:  # the map keeps it
                shape_of_map = (self._rows, self._columns, self._channels)
                self._pixels = np.memmap(behind, np.uint8, "w+", shape=shape_of_map)
        return self

    def write(self, unit: NDArray[Any]) -> None:
        """Append ``(n, columns, channels)`` in [0, 1]."""
        white = np.iinfo(self.dtype).max  # type: ignore[type-var]  # uint8 or uint16
        rows = np.rint(np.clip(unit, 0, 1) * white).astype(self.dtype)
        if self._png is not None:
            self._png.write(rows)
        elif self._pixels is not None:
            self._pixels[self._at : self._at + len(rows)] = rows
        self._at += len(rows)

    def commit(self) -> Path:
        """Put the complete photograph in its place."""
        if self._png is not None:
            self._png.finish()
        elif self._pixels is not None:
            self._encode(self._pixels)
        self._photo_file.flush()
        os.fsync(self._photo_file.fileno())
        self._photo_file.close()
        self._partial.replace(self.out)
        sync_folder(self.out.parent)
        return self.out

    def _encode(self, pixels: NDArray[Any]) -> None:
        image = Image.fromarray(pixels[..., 0] if self._channels == 1 else pixels)
        kept: dict[str, Any] = {"exif": self._exif, "quality": QUALITY}
        if self._icc is not None:
            kept["icc_profile"] = self._icc
        if self.out.suffix.lower() == ".webp":
            image.save(self._photo_file, "WEBP", **kept)
        else:
            image.save(self._photo_file, "JPEG", subsampling=0, **kept)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove whatever is not complete."""
        self._pixels = None
        self._photo_file.close()
        self._partial.unlink(missing_ok=True)


def _exif(source: Photo, software: str, rows: int, columns: int) -> bytes:
    """Copy the source's EXIF, with the maker and the size of the new image; its orientation is already applied."""
    exif = Image.Exif()
    if source.exif is not None:
        exif.load(source.exif)
    exif[SOFTWARE] = software
    block = exif.get_ifd(EXIF_BLOCK)
    if block:
        block[WIDTH], block[HEIGHT] = columns, rows
    return exif.tobytes()


def default_photo_output(source: Path, scale: int) -> Path:
    """Path of the output if none is given: beside the input, named after it.

    >>> default_photo_output(Path("/photos/lake.jpg"), 4).name
    'lake-srx4.jpg'
    """
    return source.resolve().with_name(f"{source.stem}-srx{scale}{source.suffix}")
