"""Photographs read from PNG, JPEG and WebP: upright, with their 16 bits, alpha and profile."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from qdm_med.errors import DataError
from qdm_med.natural.formats import SUFFIXES, is_photo

ORIENTATION = 0x0112
"""EXIF tag: how a stored image is to be turned."""

Pixels = NDArray[Any]

_TURNED: Mapping[int, Callable[[Pixels], Pixels]] = MappingProxyType(
    {
        2: lambda image: image[:, ::-1],
        3: lambda image: image[::-1, ::-1],
        4: lambda image: image[::-1],
        5: lambda image: image.swapaxes(0, 1),
        6: lambda image: image.swapaxes(0, 1)[:, ::-1],
        7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
        8: lambda image: image.swapaxes(0, 1)[::-1],
    }
)
"""EXIF orientation -> what makes ``(rows, columns, ...)`` upright (CIPA DC-008, 4.6.4)."""

_MODES: Mapping[str, str] = MappingProxyType(
    {"1": "L", "L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "I;16": "I;16", "I;16B": "I;16", "I": "I;16"}
)
"""Pillow's modes that are read, and as what."""


@dataclass(frozen=True, eq=False)
class Photo:
    """A photograph, upright.

    Attributes:
        path: File that it was read from.
        colour: ``(rows, columns, 3)``, or of a grey one ``(rows, columns, 1)``; uint8 or uint16, as encoded for display.
        alpha: ``(rows, columns)`` of the same type, if it has transparency.
        icc: Its ICC profile.
        exif: Its EXIF block without the orientation, which is already applied.
    """

    path: Path
    colour: Pixels
    alpha: Pixels | None = None
    icc: bytes | None = None
    exif: bytes | None = None

    @property
    def white(self) -> int:
        """Largest value of a sample, 255 or 65535."""
        return int(np.iinfo(self.colour.dtype).max)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.colour.shape[0], self.colour.shape[1]

    def unit(self, rows: slice = slice(None), columns: slice = slice(None)) -> NDArray[np.float32]:
        """Cut out a part as ``(3, h, w)`` float32 in [-1, 1]; grey is repeated to three channels."""
        part = self.colour[rows, columns].astype(np.float32) * np.float32(2 / self.white) - np.float32(1)
        return np.array(np.broadcast_to(part, (*part.shape[:2], 3)).transpose(2, 0, 1), order="C")


def list_photos(folder: Path) -> list[Path]:
    """List all photographs in a folder and the folders below, by name.

    Raises:
        DataError: If the folder is missing or holds none.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give one with photographs ({', '.join(SUFFIXES)})")
    found = sorted(path for path in folder.rglob("*") if is_photo(path) and not path.name.startswith("."))
    if not found:
        raise DataError(f"{folder}: holds no photographs ({', '.join(SUFFIXES)})")
    return found


def read_photo(path: Path) -> Photo:
    """Read a photograph.

    Raises:
        DataError: If the file is missing, broken, or of a kind that is not read.
    """
    try:
        data = path.read_bytes()
        with warnings.catch_warnings(), Image.open(io.BytesIO(data)) as image:
            # Sizes are bounded by what memory holds, and odd metadata is no reason to refuse pixels.
            warnings.simplefilter("ignore")
            image.load()
            return _read(path, data, image)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check --series") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, RuntimeError, struct.error) as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: cannot be read as a photograph ({reason}); is the file whole?") from None
    except Image.DecompressionBombError:
        raise DataError(f"{path}: has more pixels than Pillow opens ({Image.MAX_IMAGE_PIXELS}); cut it first") from None


def _read(path: Path, data: bytes, image: Image.Image) -> Photo:
    exif = image.getexif()
    turn = _TURNED.get(exif.get(ORIENTATION, 1))
    exif.pop(ORIENTATION, None)
    samples = _deep_samples(path, data) if _is_deep(data) else _samples(path, image)
    samples = samples if turn is None else turn(samples)
    channels = samples.shape[2]
    alpha = samples[..., -1] if channels in (2, 4) else None
    return Photo(
        path=path,
        colour=samples[..., : channels - (alpha is not None)],
        alpha=None if alpha is None or (alpha == np.iinfo(alpha.dtype).max).all() else alpha,
        icc=image.info.get("icc_profile"),
        exif=exif.tobytes() if len(exif) else None,
    )


def _samples(path: Path, image: Image.Image) -> Pixels:
    """Decode ``(rows, columns, channels)`` by Pillow."""
    if image.mode == "P":
        image = image.convert("RGBA" if "transparency" in image.info else "RGB")
    elif "transparency" in image.info and image.mode in ("L", "RGB"):
        image = image.convert({"L": "LA", "RGB": "RGBA"}[image.mode])
    mode = _MODES.get(image.mode)
    if mode is None:
        raise DataError(f"{path}: is {image.mode}, not grey or RGB; convert it to RGB first")
    samples = np.asarray(image if image.mode in (mode, "I", "I;16B") else image.convert(mode))
    if mode == "I;16":
        samples = np.clip(samples, 0, 65535).astype(np.uint16)
    return samples[..., None] if samples.ndim == 2 else samples


def _is_deep(data: bytes) -> bool:
    """Whether a file is a PNG of 16 bits with several channels, which Pillow would cut to 8 (PNG, 11.2.1)."""
    return data[:8] == b"\x89PNG\r\n\x1a\n" and data[24:26] in (b"\x10\x02", b"\x10\x04", b"\x10\x06")


def _deep_samples(path: Path, data: bytes) -> Pixels:
    if data[25] == 4:
        raise DataError(f"{path}: is grey of 16 bits with alpha, which is not read; store it as RGBA of 16 bits")
    samples: Pixels = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="PNGImageIO"))
    return samples
