"""``archive report``: figures and reasons over all series, as a page and as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from qdm_med.archive.books import Entry, entries, reasons
from qdm_med.archive.folder import ArchiveFolder
from qdm_med.errors import SeriesError
from qdm_med.files import write_whole
from qdm_med.io.output.job_folder import os_errors_as_series_errors

COLUMNS = (
    *("id", "source", "state", "reason", "slices", "rows", "columns", "row_spacing_mm", "column_spacing_mm"),
    *("input_bytes", "output_bytes", "estimated_seconds", "seconds", "active_leaves", "active_windows"),
    *("resumed", "out", "warnings"),
)
PAGE_ROWS = 1000
"""Series that the page lists one by one, the failed and refused first; the table has all."""


def row(entry: Entry) -> dict[str, Any]:
    """Lay out one line of the table, by :data:`COLUMNS`; what is unknown is empty."""
    series, record = entry.planned, entry.receipt.record if entry.receipt else {}
    return {
        "id": series.id,
        "source": series.source if not series.member else f"{series.source}:{series.member}",
        "state": entry.state,
        "reason": entry.reason,
        "slices": series.slices,
        "rows": series.shape[0],
        "columns": series.shape[1],
        "row_spacing_mm": series.spacing_mm[0],
        "column_spacing_mm": series.spacing_mm[1],
        "input_bytes": series.input_bytes,
        "output_bytes": record.get("output_bytes", ""),
        "estimated_seconds": series.seconds,
        **{name: _shown(record.get(name)) for name in ("seconds", "active_leaves", "active_windows", "resumed")},
        "out": series.out,
        "warnings": " | ".join(record.get("warnings", ())),
    }


def figures(found: Sequence[Entry]) -> dict[str, Any]:
    """Add up all series."""
    records = [entry.receipt.record for entry in found if entry.receipt]
    slices = sum(record["slices"] for record in records)
    timed = [record for record in records if record["seconds"]]
    states = [entry.state for entry in found]
    return {
        **{state: states.count(state) for state in ("done", "failed", "waiting", "refused")},
        "slices": slices,
        "output_gib": sum(record["output_bytes"] for record in records) / 2**30,
        "worker_hours": sum(record["seconds"] for record in timed) / 3600,
        "seconds_per_slice": _mean(timed, "seconds", over="slices"),
        "active_leaves": _mean(timed, "active_leaves", weight="slices"),
        "active_windows": _mean(timed, "active_windows", weight="slices"),
    }


def _mean(records: Sequence[dict[str, Any]], name: str, *, over: str = "", weight: str = "") -> float:
    total = sum(record[name] * (record[weight] if weight else 1) for record in records)
    count = sum(record[over or weight] for record in records)
    return total / count if count else 0.0


def write_reports(folder: ArchiveFolder, html: Path | None, table: Path | None) -> dict[str, Any]:
    """Write page and table, each if asked for, and return the figures.

    Raises:
        DataError: If nothing is planned.
        SeriesError: If a file cannot be written.
    """
    found = list(entries(folder))
    for path, text in ((html, _page), (table, _table)):
        if path is not None:
            _write(path, text(found, folder))
    return figures(found)


def _write(path: Path, text: str) -> None:
    if path.is_dir():
        raise SeriesError(f"{path}: a folder is in the way; choose another file")
    with os_errors_as_series_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(text.encode()))


def _table(found: Sequence[Entry], folder: ArchiveFolder) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(row, found))
    return buffer.getvalue()


def _page(found: Sequence[Entry], folder: ArchiveFolder) -> str:
    order = ("failed", "waiting", "refused", "done")
    listed = sorted(found, key=lambda one: (order.index(one.state), one.planned.source))[:PAGE_ROWS]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = (resources.files("qdm_med.archive") / "report.html").read_text()
    return environment.from_string(template).render(
        figures=figures(found),
        reasons=reasons(list(found)),
        rows=[row(one) for one in listed],
        left_out=len(found) - len(listed),
        settings=sorted((folder.settings() or {}).items()),
        tree=folder.planned().tree.name,
    )


def _shown(value: Any) -> Any:
    return "" if value is None else round(value, 4)
