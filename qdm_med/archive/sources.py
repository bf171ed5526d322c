"""CT series under a tree (DICOM, volume files, zip archives of either), each with the reason if it would be refused."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qdm_med.archive.manifest import PlannedSeries
from qdm_med.errors import QdmMedError
from qdm_med.io.dicom.file import Content, shown, sniff
from qdm_med.io.find import FoundSeries, find_series, look
from qdm_med.io.read import read_volume
from qdm_med.io.unpack import marker, unpack


def series_under(tree: Path, scratch: Path, *, exclude: Path, reading: Mapping[str, Any]) -> list[PlannedSeries]:
    """Find every series below a tree; what is damaged or no CT is listed with the reason, never fatal.

    Args:
        tree: Folder to search at any depth, absolute.
        scratch: Folder for what is unpacked meanwhile.
        exclude: Output, which is no input.
        reading: Options of :func:`qdm_med.io.read.read_volume`.

    Returns:
        Series in an order that depends on names alone; those that come twice are refused the second time.

    Raises:
        SeriesError: If a folder or file below the tree may not be read.
    """
    seen = look(tree, exclude=(exclude,), rescale_type_is_hu=reading.get("rescale_type_is_hu", False))
    found = [_planned(one, tree, reading) for one in seen.series]
    for path in seen.archives:
        found += _in_zip(path, tree, scratch, reading)
    return _refuse_copies(sorted(found, key=lambda one: (one.source, one.member, one.series_uid)))


@contextmanager
def opened(series: PlannedSeries, tree: Path, scratch: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Open the folder or file of a series; zip archives are unpacked while the block lasts.

    If the process is killed what was unpacked stays, and serves the next attempt.
    """
    options = {"series_uid": series.series_uid} if series.series_uid else {}
    source = tree / series.source
    if not _is_zip(series, source):
        yield source, options
        return
    folder = scratch / series.id
    try:
        unpack(source, folder)
        yield folder / series.member, options
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        marker(folder).unlink(missing_ok=True)


def _is_zip(series: PlannedSeries, source: Path) -> bool:
    """Whether a series lies in an archive: DICOM comes as folders or single files, volume files without a member."""
    return bool(series.member) or (source.is_file() and sniff(source) is Content.ARCHIVE)


def source_files(series: PlannedSeries, tree: Path, read_from: Sequence[Path]) -> list[Path]:
    """Files whose hashes identify the source: the ones that were read, or the archive that held them."""
    source = tree / series.source
    return [source] if _is_zip(series, source) else list(read_from)


def digest(*parts: str) -> str:
    """Anonymous name of a series."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _planned(found: FoundSeries, tree: Path, reading: Mapping[str, Any]) -> PlannedSeries:
    place = found.path.relative_to(tree).as_posix()
    if found.headers:
        return _dicom(found, place, reading)
    if found.refused:  # a damaged file
        return PlannedSeries(digest(found.refused[0]), place, refused=found.refused[0])
    return _volume_file(found.path, place, reading)


def _dicom(found: FoundSeries, place: str, reading: Mapping[str, Any]) -> PlannedSeries:
    first = found.headers[0]
    tolerated = reading.get("skip_bad") and not found.made_by_us
    reasons = () if tolerated or (found.made_by_us and reading.get("force")) else found.refused
    planned = PlannedSeries(
        digest(first.study_uid, first.series_uid),
        place,
        series_uid=first.series_uid,
        slices=found.slices,
        shape=(first.rows or 0, first.columns or 0),
        spacing_mm=(first.spacing[0], first.spacing[1]) if first.spacing else (0.0, 0.0),
        refused=next(iter(reasons), ""),
    )
    return _with_files(planned, [header.path for header in found.headers])


def _with_files(series: PlannedSeries, files: Sequence[Path]) -> PlannedSeries:
    """Record number, bytes and age of a source's files."""
    stats = [path.stat() for path in files]
    return replace(
        series,
        input_files=len(stats),
        input_bytes=sum(stat.st_size for stat in stats),
        newest_ns=max(stat.st_mtime_ns for stat in stats),
    )


def _volume_file(path: Path, place: str, reading: Mapping[str, Any]) -> PlannedSeries:
    series = _with_files(PlannedSeries(digest(place), place), [path])
    try:
        volume = read_volume(path, **reading)
    except QdmMedError as error:
        return replace(series, refused=str(error))
    slices, rows, columns = volume.geometry.shape
    return replace(series, slices=slices, shape=(rows, columns), spacing_mm=volume.geometry.spacing[1:])


def _in_zip(path: Path, tree: Path, scratch: Path, reading: Mapping[str, Any]) -> list[PlannedSeries]:
    """Series of a zip archive, unpacked to be looked at; an archive within an archive is not opened."""
    place = path.relative_to(tree).as_posix()
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=scratch, prefix="look-") as folder:
            unpack(path, inside := Path(folder) / "files")
            seen = find_series(inside, rescale_type_is_hu=reading.get("rescale_type_is_hu", False))
            found = [_planned(one, inside, reading) for one in seen]
    except QdmMedError as error:
        return [_with_files(PlannedSeries(digest(place), place, refused=str(error)), [path])]
    if not found:
        return [_with_files(PlannedSeries(digest(place), place, refused="zip archive without CT"), [path])]
    return [_of_zip(one, place, path) for one in found]


def _of_zip(series: PlannedSeries, place: str, path: Path) -> PlannedSeries:
    is_volume = not series.series_uid
    identity = digest(place, series.source) if is_volume else series.id
    return _with_files(replace(series, id=identity, source=place, member=series.source), [path])


def _refuse_copies(found: list[PlannedSeries]) -> list[PlannedSeries]:
    first: dict[str, PlannedSeries] = {}
    kept = []
    for one in found:
        known = first.setdefault(one.id, one)
        if known is one:
            kept.append(one)
        elif not one.refused:
            reason = f"the same series as {shown(known.source)}"
            kept.append(replace(one, id=digest(one.id, one.source, one.member), refused=reason))
    return kept
