"""Volume files whose names or text headers are misleading, caught before a library stumbles over them."""

from __future__ import annotations

import re
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import shown

_GZIP = b"\x1f\x8b"
_HEADER_BYTES = 16384
_NUMBERS = re.compile(
    rb"^(ElementSpacing|ElementSize|Offset|Position|Origin|TransformMatrix|Rotation|Orientation|spacings|thicknesses)"
    rb"\s*[=:]\s*(.+?)\s*$",
    re.MULTILINE | re.IGNORECASE,
)
"""Lines of MetaImage and NRRD headers that hold plain numbers between blanks."""
_VECTORS = re.compile(rb"^(space directions|space origin)\s*:\s*(.+?)\s*$", re.MULTILINE | re.IGNORECASE)
_ENCODING = re.compile(rb"^encoding\s*:\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_KNOWN_ENCODINGS = (b"raw", b"gz", b"gzip", b"txt", b"text", b"ascii", b"hex")
_DECIMAL_COMMA = re.compile(rb"[-+]?\d*,\d+(e[-+]?\d+)?", re.IGNORECASE)


def require_honest_suffix(path: Path) -> None:
    """Refuse a NIfTI file whose suffix says gzip where it is none, or the other way round.

    Raises:
        SeriesError: If it is so, or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP
    except OSError as error:
        raise SeriesError(f"{shown(path)}: cannot be read ({error.strerror}); check the file") from error
    named = path.name.lower().endswith(".gz")
    if packed and not named:
        raise SeriesError(f"{shown(path)}: is a gzip file; rename it to {shown(path.name)}.gz")
    if named and not packed:
        raise SeriesError(f"{shown(path)}: is no gzip file; rename it to {shown(path.name)[:-3]} or copy it again")


def require_plain_header(path: Path) -> None:
    """Refuse an NRRD or MetaImage header with a value that readers misread or cannot read.

    Raises:
        SeriesError: If numbers have decimal commas or the encoding is unknown.
    """
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError as error:
        raise SeriesError(f"{shown(path)}: cannot be read ({error.strerror}); check the file") from error
    header = re.split(rb"\r?\n\r?\n|ElementDataFile", header, maxsplit=1)[0]
    for name, value in _NUMBERS.findall(header):
        if any(_DECIMAL_COMMA.fullmatch(token) for token in value.split()):
            raise SeriesError(_comma(path, name, value))
    for name, value in _VECTORS.findall(header):
        if any(vector.count(b",") > 3 for vector in re.findall(rb"\(([^)]*)\)", value)):
            raise SeriesError(_comma(path, name, value))
    encoding = _ENCODING.search(header)
    if header.startswith(b"NRRD") and encoding and encoding[1].lower() not in _KNOWN_ENCODINGS:
        raise SeriesError(f"{shown(path)}: encoding {_text(encoding[1])} cannot be read; write it as raw or gzip")


def _comma(path: Path, name: bytes, value: bytes) -> str:
    return f"{shown(path)}: {_text(name)} {_text(value)} has decimal commas; write the numbers with points"


def _text(value: bytes) -> str:
    return shown(value.decode("ascii", "replace"))[:80]
