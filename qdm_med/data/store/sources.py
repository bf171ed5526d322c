"""Search for CT series in a tree of files, for the slice store."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from qdm_med.data.store.slices import anonymous_key
from qdm_med.errors import DataError, SeriesError
from qdm_med.io.dicom.checks import refusals
from qdm_med.io.dicom.file import Content, read_dataset, shown
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.reader import DicomSlices, geometry_of
from qdm_med.io.dicom.series import scan, sort_slices
from qdm_med.io.find import is_volume_name
from qdm_med.io.read import read_volume
from qdm_med.volume import Provenance, Volume

AIR_HU = -200.0
"""A middle slice with nothing below this holds no air: label maps and images of other kinds look like that."""


@dataclass(frozen=True)
class SourceSeries:
    """One series that can be opened.

    Attributes:
        label: Its folder or file relative to the sources, for messages.
        patient: Anonymous key of the patient.
        series: Anonymous key of the series.
        files: Files below and including the sources' folder: one a slice in slice order, or one for all.
        open: Reads the series.
        slice_thickness_mm: Nominal thickness; 0 where unknown.
        kernel: Reconstruction kernel; empty where unknown.
        manufacturer: Scanner vendor; empty where unknown.
    """

    label: str
    patient: str
    series: str
    files: tuple[PurePosixPath, ...]
    open: Callable[[], Volume]
    slice_thickness_mm: float = 0.0
    kernel: str = ""
    manufacturer: str = ""

    @property
    def first_file(self) -> str:
        """Its first file, which no other series has; two grids of one DICOM series share all else."""
        return str(self.files[0])

    def file_of(self, index: int) -> PurePosixPath:
        """The file that slice ``index`` comes from."""
        return self.files[index] if len(self.files) > 1 else self.files[0]


@dataclass(frozen=True)
class LeftOut:
    """Files or slices that did not enter a store.

    Attributes:
        where: Series or file, relative to the sources; empty for files that were only counted.
        reason: Why.
        count: Number of them; 0 where it could not be counted.
    """

    where: str
    reason: str
    count: int


@dataclass(frozen=True)
class SourceTree:
    """Content of a tree of files: series to prepare, and what is left out.

    Attributes:
        series: CT series, in an order that depends on their identities only.
        left_out: Everything else.
    """

    series: tuple[SourceSeries, ...]
    left_out: tuple[LeftOut, ...]


def find_sources(sources: Path, exclude: Path | None = None) -> SourceTree:
    """Find every CT series and volume file below a folder; damaged or foreign files are listed, not fatal.

    NIfTI, NRRD and MetaImage files know no patient: each counts as its own unless a split list says otherwise.

    Args:
        sources: Folder to search.
        exclude: Output folder, passed over if it lies below ``sources``.

    Raises:
        DataError: If the folder is missing.
        SeriesError: If a folder or file below it may not be read.
    """
    if not sources.is_dir():
        raise DataError(f"{sources} is no folder; give the folder that holds the CT series")
    root = sources.resolve()
    outputs = () if exclude is None else (exclude,)
    found = scan(root, exclude=outputs)
    series = [_volume_file(path, root) for path in found.others.get(Content.OTHER, ()) if is_volume_name(path)]
    others = found.other - Counter({Content.OTHER.value: len(series)})
    left_out = [LeftOut("", reason, count) for reason, count in sorted(others.items())]
    left_out += [LeftOut("", f"unreadable: {line}", 1) for line in found.damaged]
    for _, headers in sorted(found.series().items()):
        found_series, unusable = _dicom_series(headers, root)
        series += found_series
        left_out += unusable
    return SourceTree(tuple(sorted(series, key=lambda one: one.series)), tuple(left_out))


def _place(path: Path, root: Path) -> PurePosixPath:
    return PurePosixPath(path.relative_to(root.parent).as_posix())


def _volume_file(path: Path, root: Path) -> SourceSeries:
    key = anonymous_key(path.relative_to(root).as_posix())
    place = _place(path, root)
    return SourceSeries(place.as_posix(), key, key, (place,), partial(_open_volume_file, path))


def _open_volume_file(path: Path) -> Volume:
    volume = read_volume(path)
    if volume.slices[len(volume) // 2].hu.min() > AIR_HU:
        raise SeriesError(f"{path}: the middle slice holds no air, so its values are not HU; leave the file out")
    return volume


def _dicom_series(headers: Sequence[SliceHeader], root: Path) -> tuple[list[SourceSeries], list[LeftOut]]:
    """Sources in one DICOM series, one for each grid among its readable CT slices, and what else was there.

    References are single slices: a series with several frames of reference or matrices is no obstacle here.
    """
    label = _place(headers[0].path.parent, root).as_posix()
    grids: dict[Hashable, list[SliceHeader]] = defaultdict(list)
    reasons: Counter[str] = Counter()
    for header in headers:
        reason = _why_not(header)
        if reason is None:
            grids[header.patient, header.rows, header.columns, header.spacing].append(header)
        else:
            reasons[reason] += 1
    sources = [_dicom_source(label, sort_slices(grid), root) for grid in grids.values()]
    return sources, [LeftOut(label, reason, count) for reason, count in sorted(reasons.items())]


def _why_not(header: SliceHeader) -> str | None:
    """Say why an object is no slice for a store; ``None`` if it is one."""
    if not header.is_ct:
        return header.kind
    if header.derived_by_us:
        return "made by qdm-med"
    refusal = next(refusals([header]), None)
    return refusal and refusal.removeprefix(f"{shown(header.path)}: ")


def _dicom_source(label: str, ordered: list[SliceHeader], root: Path) -> SourceSeries:
    first = ordered[0]
    return SourceSeries(
        label=label,
        patient=_patient_key(first),
        series=anonymous_key(first.series_uid),
        files=tuple(_place(header.path, root) for header in ordered),
        open=partial(_open_dicom, ordered),
        slice_thickness_mm=first.thickness or 0.0,
        kernel=first.kernel,
        manufacturer=str(read_dataset(first.path, tags=["Manufacturer"]).get("Manufacturer") or ""),
    )


def _patient_key(header: SliceHeader) -> str:
    """Key of the PatientID, or of the study where there is none: strangers must not become one patient."""
    dataset = read_dataset(header.path, tags=["PatientID"])
    return anonymous_key(str(dataset.get("PatientID") or "").strip() or header.study_uid)


def _open_dicom(ordered: list[SliceHeader]) -> Volume:
    provenance = Provenance("dicom", ordered[0].series_uid, tuple(header.path for header in ordered))
    return Volume(DicomSlices(ordered, frozenset()), geometry_of(ordered), provenance)
