"""``qdm-med lpips``: make the backbone file of the LPIPS columns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def lpips(
    weights: Annotated[
        Path,
        typer.Argument(help="torchvision's weight file of alexnet or squeezenet1_1 (.pth), or a saved LPIPS network."),
    ],
    out: Annotated[Path, typer.Option(help="File to create, .safetensors, for --lpips-backbone.")],
) -> None:
    """Turn torchvision's weight file into the backbone of the LPIPS columns; nothing is downloaded."""
    from qdm_med.evaluation.measures.backbone import write_backbone

    typer.echo(f"wrote {out}: features of {write_backbone(weights, out)}")
