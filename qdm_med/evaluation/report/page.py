"""Page of a report, filled from a template, a style sheet and a script that lie beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from qdm_med.errors import ConfigError
from qdm_med.evaluation.report.figures import Drawing
from qdm_med.evaluation.report.pictures import INPUT, INTERPOLATED, TRUTH, PictureCase
from qdm_med.evaluation.tables.glossary import ALARMS, glossary_of
from qdm_med.evaluation.tables.table import Table
from qdm_med.files import write_text

TITLE = "CT super-resolution: how good, and how faithful"


def write_report(
    path: Path,
    headline: str,
    tables: Sequence[Table],
    cases: Sequence[PictureCase],
    receipt: Mapping[str, Any],
    figures: Sequence[Drawing] = (),
    *,
    title: str = TITLE,
    verdict: Sequence[str] = (),
) -> None:
    """Write one HTML file that needs no network.

    Args:
        path: File to write.
        headline: One line that names the run.
        tables: Shown as they are.
        cases: Slices for the viewer.
        receipt: Record that makes the run reproducible.
        figures: From :func:`qdm_med.evaluation.report.figures.draw_figures`.
        title: Heading of the page.
        verdict: Paragraphs in plain words, each a heading line and lines that begin with a dash.

    Raises:
        ConfigError: If the file cannot be written.
    """
    # Autoescape guards against markup in names; the three files of our own are inserted as they are.
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    html = environment.from_string(_read("page.html")).render(
        title=title,
        headline=headline,
        has_truth=_has_truth(cases),
        tables=tables,
        verdict=[(lines[0], [line.removeprefix("- ") for line in lines[1:]]) for lines in map(str.splitlines, verdict)],
        glossary=glossary_of(tables),
        about_alarms=ALARMS,
        figures=figures,
        receipt=[(key, _shown(value)) for key, value in receipt.items()],
        case_titles=[case.title for case in cases],
        style=Markup(_read("style.css")),
        script=Markup(_read("viewer.js")),
        data=Markup(_json_in_html(viewer_data(cases))),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, html)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}); give another --report") from None


def viewer_data(cases: Sequence[PictureCase]) -> dict[str, Any]:
    """Collect the data that the viewer's script reads."""
    return {
        "truth": TRUTH if _has_truth(cases) else None,
        "input": INPUT,
        "left": ["bicubic", INTERPOLATED],
        "cases": [
            {
                "title": case.title,
                "scale": case.scale,
                "rows": case.shape[0],
                "columns": case.shape[1],
                "pictures": [
                    {
                        "name": picture.name,
                        "png": picture.png,
                        "leaves": picture.leaves,
                        "std": picture.std,
                        "boxes": [asdict(box) | {"unsupported": box.unsupported} for box in picture.boxes],
                    }
                    for picture in case.pictures
                ],
            }
            for case in cases
        ],
    }


def _has_truth(cases: Sequence[PictureCase]) -> bool:
    return any(picture.name == TRUTH for case in cases for picture in case.pictures)


def _read(name: str) -> str:
    return (resources.files("qdm_med.evaluation.report") / name).read_text(encoding="utf-8")


def _json_in_html(value: Any) -> str:
    """Write JSON that cannot end the script element around it."""
    return json.dumps(value).replace("<", "\\u003c")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
