"""Files and folders that appear whole or not at all, whatever kills the process."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def partial_path(path: Path) -> Path:
    """Path at which a file or folder grows: hidden beside its place, so that a rename finishes it.

    >>> partial_path(Path("out/head.nii.gz")).name
    '.head.nii.gz.partial'
    """
    return path.with_name(f".{path.name}.partial")


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file is flushed to disk and renamed to ``path`` if the block ends well.

    Yields:
        The path to write to; it is gone after an error.

    Raises:
        OSError: If the file system refuses.
    """
    partial = partial_path(path)
    try:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write_whole(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file, whole or not at all, with whatever ``write`` puts into it."""
    with whole_file(path) as partial, partial.open("wb") as file:
        write(file)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_whole(path, lambda file: file.write(text.encode()))


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a new folder to fill; it is renamed to ``path`` if the block ends well; an empty folder may stand there.

    Yields:
        The folder to fill; it is gone after an error.

    Raises:
        OSError: If the file system refuses.
    """
    place = path.resolve()
    partial = partial_path(place)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        partial.replace(place)
        sync_folder(place.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
