"""``qdm-med send``: send DICOM objects to a PACS."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def send(
    path: Annotated[Path, typer.Argument(help="Folder with DICOM objects, or one DICOM file.")],
    to: Annotated[str, typer.Option(help="TITLE@HOST:PORT (C-STORE) or the URL of a DICOMweb service (STOW-RS).")],
    title: Annotated[str, typer.Option(help="Our own application entity title.")] = "QDM_MED",
) -> None:
    """Send DICOM objects to a PACS; needs the extra pacs."""
    from qdm_med.cli.progress import CountProgress
    from qdm_med.pacs.addresses import parse_destination, require_title
    from qdm_med.pacs.send import send_folder

    destination = parse_destination(to)
    with CountProgress("instances") as progress:
        count = send_folder(path, destination, title=require_title(title), progress=progress.update)
    typer.echo(f"{count} instances stored by {destination}")
