"""``qdm-med eval --benchmark clinical``: judge a model by a physicist's tasks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from qdm_med.evaluation.clinical.options import ClinicalOptions


def judge_clinically(
    options: ClinicalOptions,
    *,
    data: Path | None,
    checkpoint: Path | None,
    device: str,
    out: Path | None,
    report: Path | None,
    as_json: bool,
) -> None:
    """Run the clinical benchmark and print what it found; arguments are those of ``eval``."""
    from qdm_med.checkpoints.model import find_checkpoint, load_checkpoint
    from qdm_med.cli.progress import CountProgress
    from qdm_med.device import pick_device
    from qdm_med.evaluation.clinical.run import evaluate_clinically

    with CountProgress("slices") as progress:
        found = evaluate_clinically(
            load_checkpoint(find_checkpoint(checkpoint)),
            options,
            device=pick_device(device),
            data=data,
            out=out,
            report=report,
            progress=progress.update,
        )
    typer.echo(json.dumps(found.as_json()) if as_json else found.text())
