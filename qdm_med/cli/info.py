"""``qdm-med info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def info(
    path: Annotated[Path, typer.Argument(help="Folder or file with images, a slice store, or a checkpoint.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in a folder of images or in a checkpoint."""
    from qdm_med.description import as_text, describe

    told = describe(path)
    typer.echo(json.dumps(told, indent=2) if as_json else as_text(told))
