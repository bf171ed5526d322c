"""``qdm-med convert``: translate the paper's released checkpoints into ours, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    denoiser: Annotated[Path, typer.Option(help="Released denoiser (.pth or .safetensors), or with --back ours.")],
    out: Annotated[Path, typer.Option(help="File to create; with --back the denoiser's.")],
    autoencoder: Annotated[
        Path | None, typer.Option(help="Released autoencoder, or with --back where it goes.")
    ] = None,
    scale: Annotated[int, typer.Option(help="Magnification that the released model was trained for.")] = 4,
    heads: Annotated[int | None, typer.Option(help="Attention heads. Default: one per 64 features.")] = None,
    latent_scale: Annotated[
        float | None,
        typer.Option(help="Latent scale factor of the released configuration. Default: 0.1 for CT, 1 for photographs."),
    ] = None,
    centre: Annotated[float, typer.Option(help="Centre in HU of the window that the model was trained on.")] = 40.0,
    width: Annotated[float, typer.Option(help="Width in HU of that window.")] = 400.0,
    back: Annotated[bool, typer.Option("--back", help="From our layout to the released one.")] = False,
) -> None:
    """Translate the paper's released checkpoints, for CT or photographs, into ours, and back."""
    from qdm_med.checkpoints.released import from_released, to_released
    from qdm_med.intensity import HuWindow
    from qdm_med.natural import released as natural
    from qdm_med.natural.checkpoint import is_natural

    if autoencoder is None:
        raise typer.BadParameter(
            "is needed: a denoiser runs in the latent space of its autoencoder", param_hint="--autoencoder"
        )
    if back and is_natural(denoiser):
        natural.to_released(denoiser, out, autoencoder)
    elif back:
        to_released(denoiser, out, autoencoder)
    elif natural.is_vq(autoencoder):
        natural.from_released(
            denoiser,
            autoencoder,
            out,
            scale=scale,
            heads=heads,
            latent_scale=1.0 if latent_scale is None else latent_scale,
        )
    else:
        from_released(
            denoiser,
            autoencoder,
            out,
            scale=scale,
            heads=heads,
            latent_scale=0.1 if latent_scale is None else latent_scale,
            intensity=HuWindow(centre, width),
        )
    typer.echo(f"wrote {out}" + (f" and {autoencoder}" if back else ""))
