"""Files of a clinical benchmark: figures as JSON, tables and some slices as one HTML page."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.clinical.case import ClinicalCase
from qdm_med.evaluation.clinical.result import ClinicalResult
from qdm_med.evaluation.methods.back_projection import BackProjection
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.report.page import write_report
from qdm_med.evaluation.report.pictures import INPUT, TRUTH, Picture, PictureCase, hu_png, mask_png
from qdm_med.evaluation.tables.table import Table
from qdm_med.files import write_text

JSON_FILE = "clinical.json"
TITLE = "CT super-resolution by the tasks of a physicist"


def save_json(out: Path, result: ClinicalResult) -> None:
    """Write the figures into a folder.

    Raises:
        ConfigError: If it cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / JSON_FILE, json.dumps(result.as_json(), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written ({error.strerror}); give another --out") from None


def write_page(path: Path, result: ClinicalResult, shown: Iterator[tuple[ClinicalCase, Mapping[str, Method]]]) -> None:
    """Write the page.

    Args:
        path: HTML file to write.
        result: Result of the run.
        shown: Slices to show, with the methods that make their images again.

    Raises:
        ConfigError: If it cannot be written.
    """
    verdicts = [Table(lines[0], ("what is wrong",), _rows(lines[1:])) for lines in _verdicts(result)]
    tables = [*verdicts, *(one.table() for one in result.scales)]
    pictures = [_pictures(case, methods) for case, methods in shown]
    receipt = dict(result.receipt) | {"command": shlex.join(["qdm-med", *sys.argv[1:]])}
    write_report(path, result.headline, tables, pictures, receipt, title=TITLE)


def _verdicts(result: ClinicalResult) -> list[list[str]]:
    return [text.split("\n") for one in result.scales for text in one.verdicts()]


def _rows(lines: list[str]) -> tuple[tuple[str, ...], ...]:
    return tuple((line.removeprefix("- "),) for line in lines) or (("nothing: every bar is held",),)


def _pictures(case: ClinicalCase, methods: Mapping[str, Method]) -> PictureCase:
    pictures = [] if case.truth_hu is None else [Picture(TRUTH, hu_png(case.truth_hu))]
    pictures.append(Picture(INPUT, hu_png(case.low_hu)))
    opponents = {one.name: one for one in (BackProjection(0), BackProjection())}
    for name, method in (opponents | dict(methods)).items():
        with torch.no_grad():
            restored = method.restore(case.low_hu, case.scale)
        leaves = None if restored.leaves is None else mask_png(restored.leaves)
        pictures.append(Picture(name, hu_png(restored.hu), leaves=leaves))
    rows, columns = (side * case.scale for side in case.low_hu.shape)
    return PictureCase(f"x{case.scale}, {case.title}", case.scale, (rows, columns), tuple(pictures))
