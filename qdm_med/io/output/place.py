"""Place of an output, checked before a byte is written."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.files import sync_folder
from qdm_med.io.dicom.file import shown

_OWN_FILE = re.compile(r"\d{5,}\.dcm")


def check_folder(out: Path, inputs: Iterable[Path], *, overwrite: bool) -> Path:
    """Refuse a place where a folder of slices cannot appear.

    Args:
        out: Folder to create; an empty one may be there already.
        inputs: Files that must survive.
        overwrite: Whether an earlier output there may be replaced; other folders never are.

    Returns:
        ``out``, absolute.

    Raises:
        SeriesError: If the place is taken, holds the input, or cannot be written.
    """
    place = out.resolve()
    if place.exists() and not place.is_dir():
        raise SeriesError(f"{shown(out)}: a file is in the way; choose another --out")
    if any(place in path.resolve().parents for path in inputs):
        raise SeriesError(f"{shown(out)}: holds the input itself; choose another --out")
    names = sorted(path.name for path in place.iterdir()) if place.exists() else []
    if names and not overwrite:
        raise SeriesError(f"{shown(out)}: folder is not empty; choose another --out or use --overwrite")
    foreign = [name for name in names if not _OWN_FILE.fullmatch(name)]
    if foreign:
        raise SeriesError(f"{shown(out)}: holds {shown(foreign[0])}, which qdm-med did not write; choose another --out")
    _check_parent(place)
    return place


def check_file(out: Path, inputs: Iterable[Path], suffixes: tuple[str, ...], *, overwrite: bool) -> Path:
    """Refuse a place where a single file cannot appear.

    Args:
        out: File to create.
        inputs: Files that must survive.
        suffixes: Suffixes of the format that is written.
        overwrite: Whether a file there may be replaced.

    Returns:
        ``out``, absolute.

    Raises:
        SeriesError: If the name or place is invalid.
    """
    place = out.resolve()
    if not place.name.lower().endswith(suffixes):
        raise SeriesError(f"{shown(out)}: must end in {' or '.join(suffixes)}, the format of its source")
    if place.is_dir():
        raise SeriesError(f"{shown(out)}: a folder is in the way; choose another --out")
    if place in {path.resolve() for path in inputs}:
        raise SeriesError(f"{shown(out)}: is the source itself; choose another --out")
    if place.exists() and not overwrite:
        raise SeriesError(f"{shown(out)}: exists; choose another --out or use --overwrite")
    _check_parent(place)
    return place


def replace_folder(new: Path, out: Path) -> None:
    """Rename ``new`` to ``out``, in place of anything that :func:`check_folder` let pass there."""
    old = out.with_name(f".{out.name}.replaced")
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)
    sync_folder(out.parent)


def _check_parent(place: Path) -> None:
    existing = next(parent for parent in place.parents if parent.exists())
    if not existing.is_dir():
        raise SeriesError(f"{shown(place)}: {shown(existing)} is a file, not a folder; choose another --out")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise SeriesError(f"{shown(place)}: {shown(existing)} is not writable; choose another --out")
