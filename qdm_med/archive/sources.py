"""CT series under a tree: DICOM, volume files and zip archives of either, each with why it would be refused."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.unpack import marker, unpack
from qdm_med.errors import QdmMedError
from qdm_med.io.dicom.checks import refusals
from qdm_med.io.dicom.file import Content, shown, sniff
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.series import scan
from qdm_med.io.raster.itk import ITK_SUFFIXES
from qdm_med.io.raster.nifti import NIFTI_SUFFIXES
from qdm_med.io.read import read_volume
from qdm_med.io.walk import walk_files


def find_series(tree: Path, scratch: Path, *, exclude: Path, reading: Mapping[str, Any]) -> list[PlannedSeries]:
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
    found = [*_dicom_series(tree, exclude, reading)]
    for path in walk_files(tree, exclude=(exclude,)):
        content = sniff(path)
        if content is Content.ARCHIVE:
            found += _in_zip(path, tree, scratch, reading)
        elif content is Content.OTHER and path.name.lower().endswith((*NIFTI_SUFFIXES, *ITK_SUFFIXES)):
            found.append(_volume_file(path, tree, reading))
    return _refuse_copies(sorted(found, key=lambda one: (one.source, one.member, one.series_uid)))


@contextmanager
def opened(series: PlannedSeries, tree: Path, scratch: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folder or file that a series is read from, and how; zip archives are unpacked for the time of the block.

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
    """DICOM comes in folders or as single files, volume files are named without a member: the rest is in archives."""
    return bool(series.member) or (source.is_file() and sniff(source) is Content.ARCHIVE)


def source_files(series: PlannedSeries, tree: Path, read_from: Sequence[Path]) -> list[Path]:
    """Files whose hashes stand for the source: those that were read, or the archive that they came from."""
    source = tree / series.source
    return [source] if _is_zip(series, source) else list(read_from)


def digest(*parts: str) -> str:
    """Name of a series that tells nothing about the patient."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _dicom_series(tree: Path, exclude: Path, reading: Mapping[str, Any]) -> Iterator[PlannedSeries]:
    found = scan(tree, exclude=(exclude,))
    for (study_uid, series_uid), headers in found.series().items():
        slices = [header for header in headers if header.is_ct]
        yield _dicom(digest(study_uid, series_uid), slices or headers, tree, reading)
    for reason in found.damaged:
        yield PlannedSeries(digest(reason), source=".", refused=reason)


def _dicom(identity: str, headers: list[SliceHeader], tree: Path, reading: Mapping[str, Any]) -> PlannedSeries:
    first = headers[0]
    files = [header.path for header in headers]
    planned = PlannedSeries(
        identity,
        source=_below(_folder_of(files), tree),
        series_uid=first.series_uid,
        slices=len(headers),
        shape=(first.rows or 0, first.columns or 0),
        spacing_mm=(first.spacing[0], first.spacing[1]) if first.spacing else (0.0, 0.0),
        refused=_why_not(headers, reading),
    )
    return _with_files(planned, files)


def _why_not(headers: list[SliceHeader], reading: Mapping[str, Any]) -> str:
    if not headers[0].is_ct:
        return f"not a CT slice series: {headers[0].kind}"
    if any(header.derived_by_us for header in headers) and not reading.get("force"):
        return "the CT series was made by qdm-med; give the original or use --force"
    return "" if reading.get("skip_bad") else next(refusals(headers), "")


def _folder_of(files: Sequence[Path]) -> Path:
    return files[0].parent if len(files) == 1 else Path(os.path.commonpath([path.parent for path in files]))


def _with_files(series: PlannedSeries, files: Sequence[Path]) -> PlannedSeries:
    """Note number, bytes and age of the files of a source."""
    stats = [path.stat() for path in files]
    return replace(
        series,
        input_files=len(stats),
        input_bytes=sum(stat.st_size for stat in stats),
        newest_ns=max(stat.st_mtime_ns for stat in stats),
    )


def _volume_file(path: Path, tree: Path, reading: Mapping[str, Any]) -> PlannedSeries:
    place = _below(path, tree)
    series = _with_files(PlannedSeries(digest(place), source=place), [path])
    try:
        volume = read_volume(path, **reading)
    except QdmMedError as error:
        return replace(series, refused=str(error))
    slices, *shape = volume.geometry.shape
    return replace(series, slices=slices, shape=(shape[0], shape[1]), spacing_mm=volume.geometry.spacing[1:])


def _in_zip(path: Path, tree: Path, scratch: Path, reading: Mapping[str, Any]) -> list[PlannedSeries]:
    """Series of a zip archive, unpacked for a look; an archive in an archive is not opened."""
    place = _below(path, tree)
    scratch.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory(dir=scratch, prefix="look-") as folder:
            unpack(path, inside := Path(folder) / "files")
            found = [*_dicom_series(inside, inside / "none", reading)]
            for file in walk_files(inside):
                if file.name.lower().endswith((*NIFTI_SUFFIXES, *ITK_SUFFIXES)) and sniff(file) is Content.OTHER:
                    found.append(_volume_file(file, inside, reading))
    except QdmMedError as error:
        return [_with_files(PlannedSeries(digest(place), source=place, refused=str(error)), [path])]
    if not found:
        return [_with_files(PlannedSeries(digest(place), source=place, refused="zip archive without CT"), [path])]
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


def _below(path: Path, tree: Path) -> str:
    return path.relative_to(tree).as_posix()
