"""Search for the CT series of a folder: walk, tell CT from the rest, group, choose one, put its slices in order."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qdm_med.errors import NoSeriesError, SeriesError, SeveralSeriesError
from qdm_med.io.dicom.file import Content, quiet, shown, shown_value, sniffed
from qdm_med.io.dicom.glance import bare_kind
from qdm_med.io.dicom.header import SliceHeader, read_slice_header
from qdm_med.io.walk import walk_files

SeriesKey = tuple[str, str]
"""StudyInstanceUID and SeriesInstanceUID."""


@dataclass(frozen=True)
class Scan:
    """Content of a folder: its DICOM objects, and its damaged and foreign files.

    Attributes:
        headers: All DICOM objects, in the order of the walk.
        other: Files that are no DICOM objects, counted by what they are.
        damaged: One line for each DICOM file that cannot be parsed.
        others: Files that are no DICOM objects, by what they are, in the order of the walk.
    """

    headers: tuple[SliceHeader, ...]
    other: Counter[str]
    damaged: tuple[str, ...]
    others: Mapping[Content, Sequence[Path]] = field(default_factory=dict)

    def series(self) -> dict[SeriesKey, list[SliceHeader]]:
        """Objects by series, in the order of the walk."""
        groups: dict[SeriesKey, list[SliceHeader]] = {}
        for header in self.headers:
            groups.setdefault((header.study_uid, header.series_uid), []).append(header)
        return groups

    def ct_series(self) -> dict[SeriesKey, list[SliceHeader]]:
        """CT slices by series: no localizers, no series without such slices."""
        slices = {key: [header for header in group if header.is_ct] for key, group in self.series().items()}
        return {key: group for key, group in slices.items() if group}

    def series_numbers(self) -> frozenset[int]:
        """Series Numbers that are taken."""
        return frozenset(header.series_number for header in self.headers if header.series_number is not None)

    def left_out(self, chosen: Collection[Path]) -> Counter[str]:
        """Count everything but the files of the chosen slices, by kind."""
        kinds = Counter(header.kind for header in self.headers if header.path not in chosen)
        return kinds + self.other


def scan(root: Path, *, exclude: Collection[Path] = ()) -> Scan:
    """Read the headers of all DICOM files below ``root``, or of the one file ``root``.

    Raises:
        SeriesError: If a folder or file cannot be read.
    """
    sorting = _Sorting()
    with quiet():  # once, not once a file
        for path in walk_files(root, exclude=exclude):
            with sniffed(path) as (content, file):
                sorting.add(path, content, file)
    return Scan(tuple(sorting.headers), sorting.other, tuple(sorting.damaged), dict(sorting.others))


@dataclass
class _Sorting:
    """Attributes as for :class:`Scan`, growing."""

    headers: list[SliceHeader] = field(default_factory=list)
    other: Counter[str] = field(default_factory=Counter)
    damaged: list[str] = field(default_factory=list)
    others: defaultdict[Content, list[Path]] = field(default_factory=lambda: defaultdict(list))

    def add(self, path: Path, content: Content, file: BinaryIO) -> None:
        if content is Content.DICOM:
            self._add_object(path, file)
            return
        if content is Content.BARE_DICOM and (kind := bare_kind(path)):
            self.other[kind] += 1
            return
        if content is Content.BARE_DICOM:
            self.damaged.append(f"{shown(path)}: DICOM without the preamble of PS3.10 7.1; rewrite it as a DICOM file")
        self.other[content.value] += 1
        self.others[content].append(path)

    def _add_object(self, path: Path, file: BinaryIO) -> None:
        try:
            header = read_slice_header(path, file)
        except SeriesError as error:
            self.damaged.append(str(error))
            return
        if header is None:
            self.other["DICOMDIR"] += 1
        else:
            self.headers.append(header)


def choose_series(
    found: Scan, root: Path, *, series_uid: str | None = None, force: bool = False, skip_bad: bool = False
) -> list[SliceHeader]:
    """Choose the one CT series that is meant, and return its slices.

    Args:
        found: Content of the folder.
        root: The folder, for messages.
        series_uid: SeriesInstanceUID, if the folder holds several.
        force: Also take a series that this tool has made.
        skip_bad: Go on where a file is damaged.

    Raises:
        SeriesError: If there is none, or several and none was named, or a file is damaged.
    """
    if found.damaged and not (skip_bad and found.ct_series()):
        more = f" (and {len(found.damaged) - 1} more)" if len(found.damaged) > 1 else ""
        raise SeriesError(found.damaged[0] + more)
    candidates = found.ct_series()
    if series_uid is not None:
        candidates = {key: group for key, group in candidates.items() if key[1] == series_uid}
    if not candidates:
        wanted = f" with SeriesInstanceUID {shown_value(series_uid)}" if series_uid is not None else ""
        raise NoSeriesError(f"{shown(root)}: no CT series{wanted}; found {_listed(found.left_out(())) or 'no files'}")
    others = {key: group for key, group in candidates.items() if force or not any(h.derived_by_us for h in group)}
    if not others:
        raise SeriesError(f"{shown(root)}: the CT series was made by qdm-med; give the original or use --force")
    if len(others) > 1:
        raise SeveralSeriesError(
            f"{shown(root)}: {len(others)} CT series, choose one with --series-uid: {_uids(others)}"
        )
    return next(iter(others.values()))


def without_copies(headers: list[SliceHeader]) -> list[SliceHeader]:
    """Drop files that repeat an instance byte for byte.

    Raises:
        SeriesError: If two different files claim to be the same instance.
    """
    first: dict[str, SliceHeader] = {}
    for header in headers:
        known = first.setdefault(header.sop_uid, header)
        if known is not header and _digest(known.path) != _digest(header.path):
            raise SeriesError(
                f"{shown(known.path)} and {shown(header.path)}: different files with the SOPInstanceUID "
                f"{shown_value(header.sop_uid)}; keep the right one"
            )
    return list(first.values())


def sort_slices(headers: list[SliceHeader]) -> list[SliceHeader]:
    """Order slices along the normal of the first one's plane; only for headers with position and orientation.

    Slices at one place are ordered by InstanceNumber, then by UID, so that the order never depends on file names.
    """
    return sorted(headers, key=lambda h: (round(place(h, headers[0]), 6), h.instance_number or 0, h.sop_uid))


def place(header: SliceHeader, reference: SliceHeader) -> float:
    """Position of a slice along the normal of ``reference``'s plane, in mm."""
    return float(np.dot(reference.axes()[0], np.array(header.position)))


def left_out_line(found: Scan, chosen: Collection[Path]) -> str | None:
    """Count in one line what was not read."""
    left_out = found.left_out(chosen)
    return f"left out: {_listed(left_out)}" if left_out else None


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))


def _uids(groups: dict[SeriesKey, list[SliceHeader]]) -> str:
    repeated = len({series for _, series in groups}) < len(groups)
    return ", ".join(
        f"{shown_value(series) or 'no UID'} ({len(group)} slices{f', study {shown_value(study)}' if repeated else ''})"
        for (study, series), group in sorted(groups.items())
    )


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
