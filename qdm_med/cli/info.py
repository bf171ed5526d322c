"""``qdm-med info``: describe a folder of images or a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_WIDTH = 200
"""Columns of a table that goes into a file or pipe, which have no width of their own."""


def info(
    path: Annotated[Path, typer.Argument(help="Folder or file with images, a slice store, or a checkpoint.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a folder of images or in a checkpoint."""
    from qdm_med.description import as_text, describe

    told = describe(path)
    if as_json:
        typer.echo(json.dumps(told, indent=2))
    elif told["kind"] == "folder":
        _print_series(told["series"])
    else:
        typer.echo(as_text(told))


def _print_series(series: list[dict[str, Any]]) -> None:
    """Print a table with a row a series; long entries stand below it, under the row's number."""
    from rich.console import Console

    console = Console(markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console = Console(markup=False, highlight=False, emoji=False, width=PLAIN_WIDTH)
    console.print(series_table(series))
    for number, each in enumerate(series, start=1):
        for line in _notes(each):
            console.print(f"{number:>3}  {line}", soft_wrap=True)


def series_table(series: list[dict[str, Any]]) -> Table:
    """Lay out the table of ``qdm-med info FOLDER``."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in (
        "",
        "patient",
        "study",
        "no.",
        "description",
        "kind",
        "slices",
        "matrix",
        "spacing mm",
        "gaps mm",
        "tilt",
        "kernel",
        "kVp",
        "encoding",
        "use",
    ):
        table.add_column(heading, justify="right" if heading in ("", "no.", "slices") else "left")
    for number, each in enumerate(series, start=1):
        table.add_row(*(Text(cell) for cell in (str(number), *_cells(each))))
    return table


def _cells(each: Mapping[str, Any]) -> Iterator[str]:
    yield each["patient"]
    yield each["study_date"]
    yield "" if each["number"] is None else str(each["number"])
    yield each["description"]
    yield each["kind"]
    yield str(each["slices"])
    yield "x".join(map(str, each["matrix"])) if each["matrix"] else ""
    yield " x ".join(f"{value:.4g}" for value in each["spacing_mm"] or ())
    yield _gaps(each["gaps_mm"])
    yield f"{each['tilt_degrees']:g}" if each["tilt_degrees"] else ""
    yield each["kernel"]
    yield f"{each['kvp']:g}" if each["kvp"] else ""
    yield each["transfer_syntax"]
    yield "no" if each["refused"] else "yes"


def _gaps(gaps: tuple[float, float, float] | None) -> str:
    if gaps is None:
        return ""
    smallest, usual, largest = (f"{gap:.4g}" for gap in gaps)
    return usual if smallest == largest else f"{smallest} to {largest}, usually {usual}"


def _first_of(reasons: tuple[str, ...]) -> str:
    more = f" (and {len(reasons) - 1} more)" if len(reasons) > 1 else ""
    return f"{reasons[0]}{more}" if reasons else ""


def _notes(each: Mapping[str, Any]) -> Iterator[str]:
    if each["series_uid"]:
        yield f"SeriesInstanceUID {each['series_uid']}"
    if each["refused"]:
        yield f"refused: {_first_of(each['refused'])}"
    for warning in each["warnings"]:
        yield f"warning: {warning}"
