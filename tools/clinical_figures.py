"""Write the figures of the clinical benchmark into the pages that tell them.

Usage: python -m tools.clinical_figures CLINICAL.json

The file is what ``qdm-med eval --benchmark clinical --out DIR`` writes. ``docs/figures.md`` gets the whole table; pages with fewer
rows list their names in the marker: ``<!-- clinical: noise_lung, contrast_kept -->`` up to ``<!-- end -->``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdm_med.evaluation.clinical.measures import MEASURES, Measure
from tools.house import ROOT

PAGES = (ROOT / "docs" / "figures.md", ROOT / "docs" / "use.md", ROOT / "qdm_med" / "weights" / "qdm-c.md")

MARKED = re.compile(r"(<!-- clinical: )(?P<names>[\w, ]+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)

SIGNS = {"at most": "<= ", "at least": ">= "}


def table(found: Mapping[str, Any], names: Sequence[str]) -> str:
    """Markdown table of some measures, or of all of them with ``["all"]``: each scale with bicubic, methods and bar."""
    scales = [name for name in found if name.startswith("x")]
    columns = [(scale, method) for scale in scales for method in ("bicubic", *found[scale]["methods"], "bar")]
    head = [f"{scale} {method}" if method == "bicubic" else method for scale, method in columns]
    chosen = [one for one in MEASURES if names == ["all"] or one.name in names]
    rows = [[one.title, *(_cell(found[scale], method, one) for scale, method in columns)] for one in chosen]
    if names == ["all"]:
        rows.append(["bars held", *(_held(found[scale], method) for scale, method in columns)])
    lines = [["", *head], ["---"] * (len(head) + 1), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _cell(scale: Mapping[str, Any], method: str, measure: Measure) -> str:
    if method == "bicubic":
        return _number(scale["opponents"]["bicubic"].get(measure.name), measure)
    stated = scale["bars"][measure.name]
    if method == "bar":
        return "" if stated["bar"] is None else SIGNS.get(stated["sense"], "") + _number(stated["bar"], measure)
    answer = scale["methods"][method]
    short = " **short**" if measure.name in answer["missed"] else ""
    return _number(answer["figures"][measure.name], measure) + short


def _held(scale: Mapping[str, Any], method: str) -> str:
    answer = scale["methods"].get(method)
    return f"{answer['held']} of {answer['bars']}" if answer else ""


def _number(value: float | None, measure: Measure) -> str:
    return "" if value is None else f"{value:.{measure.digits}f}"


def rewritten(text: str, found: Mapping[str, Any]) -> str:
    """A page with the figures of ``found``."""

    def fill(match: re.Match[str]) -> str:
        names = [name.strip() for name in match["names"].split(",")]
        return f"{match[1]}{match['names']}{match[3]}{table(found, names)}"

    return MARKED.sub(fill, text)


def main(path: Path) -> None:
    """Rewrite all pages."""
    found = json.loads(path.read_text(encoding="utf-8"))
    for page in PAGES:
        page.write_text(rewritten(page.read_text(encoding="utf-8"), found), encoding="utf-8")
    print(f"{found['headline']}: {', '.join(page.name for page in PAGES)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
