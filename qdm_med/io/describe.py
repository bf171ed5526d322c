"""Description of a tree of files, series by series: what it holds, and what of it would be refused for which reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.checks import gaps_mm, refusals, warnings_about
from qdm_med.io.dicom.file import shown, shown_value, uid_name
from qdm_med.io.dicom.header import SliceHeader
from qdm_med.io.dicom.series import Scan, scan, sort_slices
from qdm_med.io.find import MADE_BY_US


@dataclass(frozen=True)
class SeriesSummary:
    """One series, or files that belong to none; nothing in it names the patient.

    Attributes:
        kind: Kind of the series, in words.
        slices: Number of objects or files.
        series_uid: SeriesInstanceUID, for ``--series-uid``; empty for files that are no series.
        matrix: Rows and columns; ``None`` where slices differ or have none.
        spacing_mm: Distance between rows and between columns.
        gaps_mm: Smallest, usual and largest distance between neighbouring slices along their normal.
        tilt_degrees: Gantry tilt.
        kernel: Reconstruction kernel.
        kvp: Tube voltage in kV.
        transfer_syntax: Name of the encoding.
        warnings: Oddities of the series, one line each.
        refused: Why it cannot be super-resolved; empty if it can. Pixel data are not decoded for this.
        patient: Pseudonym that tells patients apart.
        study_date: StudyDate, ``YYYYMMDD``.
        number: SeriesNumber, for ``--series-number``.
        description: SeriesDescription, for ``--description``.
    """

    kind: str
    slices: int
    series_uid: str = ""
    matrix: tuple[int, int] | None = None
    spacing_mm: tuple[float, ...] | None = None
    gaps_mm: tuple[float, float, float] | None = None
    tilt_degrees: float | None = None
    kernel: str = ""
    kvp: float | None = None
    transfer_syntax: str = ""
    warnings: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    patient: str = ""
    study_date: str = ""
    number: int | None = None
    description: str = ""


def describe_tree(path: Path) -> list[SeriesSummary]:
    """Describe every DICOM series below a folder, or one file; CT first, then the rest, then damaged files.

    Raises:
        SeriesError: If there is nothing at ``path``, or it cannot be read.
    """
    if not path.exists():
        raise SeriesError(f"{shown(path)}: no such file or folder")
    found = scan(path)
    ct = [_ct_summary(headers) for headers in found.ct_series().values()]
    damaged = [SeriesSummary("damaged file", 1, refused=(reason,)) for reason in found.damaged]
    return [*ct, *_others(found), *damaged]


def _ct_summary(headers: list[SliceHeader]) -> SeriesSummary:
    reasons = tuple(refusals(headers))
    placed = all(header.position and header.orientation and header.spacing for header in headers)
    ordered = sort_slices(headers) if placed else headers
    first = ordered[0]
    made_by_us = (MADE_BY_US,) if any(h.derived_by_us for h in headers) else ()
    return SeriesSummary(
        kind=first.kind,
        slices=len(headers),
        series_uid=shown_value(first.series_uid),
        matrix=_matrix(headers),
        spacing_mm=first.spacing,
        gaps_mm=_gaps(ordered) if placed else None,
        tilt_degrees=first.tilt,
        kernel=shown_value(first.kernel),
        kvp=first.kvp,
        transfer_syntax=uid_name(first.transfer_syntax),
        warnings=() if reasons or not placed else tuple(warnings_about(ordered)),
        refused=reasons + made_by_us,
        patient=first.patient[:8],
        study_date=shown_value(first.study_date),
        number=first.series_number,
        description=shown_value(first.description),
    )


def _matrix(headers: list[SliceHeader]) -> tuple[int, int] | None:
    rows, columns = headers[0].rows, headers[0].columns
    same = len({(header.rows, header.columns) for header in headers}) == 1
    return (rows, columns) if same and rows is not None and columns is not None else None


def _gaps(ordered: list[SliceHeader]) -> tuple[float, float, float] | None:
    gaps = gaps_mm(ordered)
    if not gaps.size:
        return None
    return float(gaps.min()), float(np.median(gaps)), float(gaps.max())


def _others(found: Scan) -> list[SeriesSummary]:
    summaries = []
    for (_, series_uid), headers in found.series().items():
        kinds = Counter(header.kind for header in headers if not header.is_ct)
        summaries += [
            SeriesSummary(kind, count, shown_value(series_uid), refused=("not a CT slice series",))
            for kind, count in sorted(kinds.items())
        ]
    summaries += [SeriesSummary(kind, count, refused=("no image",)) for kind, count in sorted(found.other.items())]
    return summaries
