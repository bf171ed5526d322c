"""Search for every series under a tree, each with what tells it apart and why it would be refused."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.checks import refusals
from qdm_med.io.dicom.file import Content, shown, shown_value
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.mending import Mending
from qdm_med.io.dicom.series import Scan, scan
from qdm_med.io.read import VOLUME_SUFFIXES

MADE_BY_US = "made by qdm-med; --force accepts it"


@dataclass(frozen=True)
class FoundSeries:
    """One series below a folder; nothing in it names the patient.

    Attributes:
        path: Source for :func:`qdm_med.io.read.read_volume`: the innermost folder of its slices, or its file.
        series_uid: SeriesInstanceUID, without which ``path`` may hold several; empty for volume files.
        headers: Headers of its slices; none for volume files, which are not opened for this.
        refused: Why it cannot be super-resolved, the most telling reason first; pixels are not decoded for this.
        made_by_us: Whether it is an output of this tool.
    """

    path: Path
    series_uid: str = ""
    headers: tuple[SliceHeader, ...] = ()
    refused: tuple[str, ...] = ()
    made_by_us: bool = False

    @property
    def number(self) -> int | None:
        """SeriesNumber."""
        return self.headers[0].series_number if self.headers else None

    @property
    def description(self) -> str:
        """SeriesDescription, or the name of a volume file."""
        return shown_value(self.headers[0].description) if self.headers else shown(self.path.name)

    @property
    def slices(self) -> int:
        """Number of slices; 0 where it was not counted."""
        return len(self.headers)


@dataclass(frozen=True)
class Found:
    """Contents of a tree.

    Attributes:
        series: CT series and volume files, in an order that depends on names alone; damaged DICOM files come last, each as a
            series of its own that is refused by name. What is no CT is left out.
        archives: Zip archives, which are not opened.
    """

    series: tuple[FoundSeries, ...]
    archives: tuple[Path, ...]


def look(root: Path, *, exclude: Collection[Path] = (), rescale_type_is_hu: bool = False) -> Found:
    """Walk a folder once and read the header of every DICOM file in it.

    Args:
        root: Folder, searched to any depth, or one file.
        exclude: Folders to pass over.
        rescale_type_is_hu: Values are HU, whatever RescaleType says: no reason to refuse a series.

    Raises:
        SeriesError: If there is nothing at ``root``, or a folder or file below it may not be read.
    """
    if not root.exists():
        raise SeriesError(f"{shown(root)}: no such file or folder")
    found = scan(root, exclude=exclude)
    volumes = (FoundSeries(path) for path in found.others.get(Content.OTHER, ()) if is_volume_name(path))
    series = sorted(
        (*_dicom_series(found, Mending(rescale_type_is_hu=rescale_type_is_hu)), *volumes),
        key=lambda each: (str(each.path), each.number or 0, each.series_uid),
    )
    damaged = (FoundSeries(root, refused=(reason,)) for reason in found.damaged)
    return Found((*series, *damaged), tuple(found.others.get(Content.ARCHIVE, ())))


def find_series(
    root: Path, *, exclude: Collection[Path] = (), rescale_type_is_hu: bool = False
) -> tuple[FoundSeries, ...]:
    """Find every CT series and volume file below a folder; see :func:`look`."""
    return look(root, exclude=exclude, rescale_type_is_hu=rescale_type_is_hu).series


def is_volume_name(path: Path) -> bool:
    """Whether a file has the name of a volume file."""
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def _dicom_series(found: Scan, mending: Mending) -> Iterator[FoundSeries]:
    for (_, series_uid), headers in found.ct_series().items():
        ours = any(header.derived_by_us for header in headers)
        yield FoundSeries(
            path=_folder_of([header.path for header in headers]),
            series_uid=series_uid,
            headers=tuple(headers),
            refused=(*refusals([mending.applied(one) for one in headers]), *((MADE_BY_US,) if ours else ())),
            made_by_us=ours,
        )


def _folder_of(files: list[Path]) -> Path:
    return Path(os.path.commonpath([path.parent for path in files]))


def chosen_series(
    series: Collection[FoundSeries],
    *,
    uid: str | None = None,
    number: int | None = None,
    description: str | None = None,
) -> list[FoundSeries]:
    """Choose the series that a user asked for: all conditions that are given must hold.

    Args:
        series: From :func:`find_series`.
        uid: SeriesInstanceUID.
        number: SeriesNumber.
        description: Part of SeriesDescription, in upper or lower case.
    """
    return [
        each
        for each in series
        if (uid is None or each.series_uid == uid)
        and (number is None or each.number == number)
        and (description is None or description.casefold() in each.description.casefold())
    ]
