"""Names of photographs' formats and benchmarks, free of heavy imports for the command line."""

from __future__ import annotations

from pathlib import Path

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
"""Suffixes of photographs, in lower case."""

BENCHMARKS = ("lsdir-test", "realsr", "realset80")
"""Benchmarks of the paper's natural-image track."""


def is_photo(path: Path) -> bool:
    """Whether a path names a photograph, by its suffix.

    >>> is_photo(Path("lake.JPG")), is_photo(Path("head.nii.gz"))
    (True, False)
    """
    return path.suffix.lower() in SUFFIXES and not path.is_dir()
