"""One DICOM file: recognised, parsed without a word into logs, and named in messages."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from enum import Enum
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
import pydicom.config
from pydicom.uid import UID

from qdm_med.errors import SeriesError

NO_PREAMBLE = tuple(bytes([group, 0, element, 0]) for group, element in ((2, 0), (8, 0), (8, 5), (8, 8), (8, 0x16)))
"""First bytes of a data set that is written without the preamble of PS3.10 section 7.1."""

VALUE_LENGTH = 64
"""Characters of the longest codes and UIDs (PS3.5 6.2)."""
_LOGGERS = ("pydicom", "pylibjpeg", "libjpeg", "openjpeg", "pynetdicom", "dicomweb_client")


class Content(Enum):
    """Kind of a file by its first bytes."""

    DICOM = "DICOM"
    BARE_DICOM = "DICOM without preamble"
    ARCHIVE = "zip archive (unpack it first)"
    EMPTY = "empty file"
    OTHER = "not DICOM"


def sniff(path: Path) -> Content:
    """Tell DICOM from other files by content; names and extensions mean nothing.

    Raises:
        SeriesError: If the file cannot be read.
    """
    with sniffed(path) as (content, _):
        return content


@contextmanager
def sniffed(path: Path) -> Iterator[tuple[Content, BinaryIO]]:
    """Open a file once, to tell what it is and to read on: on a network's disk opening takes longer than reading.

    Yields:
        What it is, and the file at its beginning.

    Raises:
        SeriesError: If the file cannot be read.
    """
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            head = file.read(132)
        except OSError as error:
            told = f"{shown(path)}: cannot be read ({error.strerror}); grant access or move it away"
            raise SeriesError(told) from error
        file.seek(0)
        yield _content(head), file


def _content(head: bytes) -> Content:
    if not head:
        return Content.EMPTY
    if head[128:] == b"DICM":
        return Content.DICOM
    if head.startswith(b"PK\3\4"):
        return Content.ARCHIVE
    return Content.BARE_DICOM if head.startswith(NO_PREAMBLE) else Content.OTHER


class _Silence:
    """Settings of the whole process that hold from the first thread that needs them to the last."""

    def __init__(self) -> None:
        self._lock, self._inside, self._restore = threading.Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                self._restore.enter_context(pydicom.config.disable_value_validation())
                for logger in map(logging.getLogger, _LOGGERS):
                    self._restore.callback(logger.setLevel, logger.level)
                    logger.setLevel(logging.CRITICAL + 1)  # unlike `disabled`, a level holds for the loggers below

    def end(self) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._restore.close()


_SILENCE = _Silence()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence pydicom, which then accepts values that break a rule: its words would put patient data into logs.

    Several threads may be inside at once. The first to enter and the last to leave change log levels, for which Python
    empties the caches of all loggers: what is done slice after slice is quicker inside as a whole.
    """
    _SILENCE.begin()
    try:
        yield
    finally:
        _SILENCE.end()


def read_dataset(path: Path, *, tags: list[str] | None = None, file: BinaryIO | None = None) -> Any:
    """Parse a file; with ``tags``, only these attributes and no pixels.

    Elements that nobody looks at stay the bytes that they are.

    Args:
        path: The file.
        tags: Attributes that are wanted; ``None``: all.
        file: The same file where it is open already; it stays so.

    Raises:
        SeriesError: If the file is damaged.
    """
    try:
        with quiet():
            return pydicom.dcmread(file or path, stop_before_pixels=tags is not None, specific_tags=tags)
    except Exception as error:  # the parser meets arbitrary bytes and raises whatever they provoke
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> SeriesError:
    """Describe a file that provoked ``error``, whose own words may hold patient data."""
    return SeriesError(
        f"{shown(path)}: damaged DICOM file ({type(error).__name__}); copy it again from its origin or move it away"
    )


def uid_name(uid: str) -> str:
    """Name of a UID of the standard; any other UID as it is.

    >>> uid_name("1.2.840.10008.5.1.4.1.1.2")
    'CT Image Storage'
    """
    return shown_value(UID(uid, validation_mode=pydicom.config.IGNORE).name)


def shown_value(text: str) -> str:
    r"""Prepare a code or UID of a header for a message: its printable beginning.

    In a damaged file a value may run on into the elements behind it and so into the patient's name. Every element
    begins with a tag, and a tag holds a byte that is not printable.

    >>> shown_value("HU\x10\0\x10\0PN\x0b\0Name")
    'HU...'
    """
    printable = next((index for index, c in enumerate(text) if not " " <= c <= "~"), len(text))
    end = min(printable, VALUE_LENGTH)
    return text if end == len(text) else f"{text[:end]}..."


def shown(text: Path | str) -> str:
    """Prepare a path from outside for one line of a message: no control characters, not endless."""
    line = "".join(c if c.isprintable() else "?" for c in str(text))
    return line if len(line) <= 200 else f"...{line[-197:]}"
