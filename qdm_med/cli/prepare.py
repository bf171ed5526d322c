"""``qdm-med prepare``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def prepare(
    sources: Annotated[Path, typer.Option(help="Folder with DICOM series and NIfTI files, at any depth.")],
    out: Annotated[Path, typer.Option(help="Slice store to create.")],
    split_csv: Annotated[
        Path | None, typer.Option(help="CSV with the columns file and split. Default: split by a hash of the patient.")
    ] = None,
) -> None:
    """Turn CT files into a slice store of 512 x 512 references, split by patient."""
    from qdm_med.data.store.prepare import prepare_slices

    report = prepare_slices(sources, out, split_csv=split_csv, progress=lambda line: typer.echo(line, err=True))
    typer.echo(report.summary())
