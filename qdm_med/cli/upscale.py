"""``qdm-med upscale``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer


def upscale(
    series: Annotated[Path, typer.Option(help="DICOM folder, or a NIfTI, NRRD or MetaImage file.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder or file to create. Default: SERIES with -srx4 or -srx8 added.")
    ] = None,
    scale: Annotated[int, typer.Option(help="Magnification of rows and columns: 4 or 8.")] = 4,
    checkpoint: Annotated[Path | None, typer.Option(help="Trained model. Default: the embedded one.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Noise seed; the same seed gives the same images.")] = 0,
    steps: Annotated[int | None, typer.Option(help="Sampling steps. Default: the model's for the scale.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Quadtree threshold; 0 refines everything. Default: the model's.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in source pixels. Default: 128 at x4, 64 at x8.")
    ] = None,
    series_uid: Annotated[str | None, typer.Option(help="SeriesInstanceUID, if the folder holds several.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Accept a source that qdm-med has made.")] = False,
    private: Annotated[str, typer.Option(help="Private DICOM elements: keep or drop.")] = "keep",
    equipment: Annotated[
        str, typer.Option(help="General Equipment of the output: keep (the scanner's) or standard (PS3.3 C.12.1.1.5).")
    ] = "keep",
    transfer_syntax: Annotated[
        str, typer.Option(help="Encoding of DICOM output: explicit, rle, jpeg-ls, jpeg-2000, htj2k; none loses.")
    ] = "explicit",
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out DICOM slices that cannot be read, instead of refusing.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Refuse a series unlike what the model was trained on.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Super-resolve a CT series and write it as a new, derived series."""
    from qdm_med.cli.progress import SliceProgress, summary_line
    from qdm_med.inference.series import upscale_series
    from qdm_med.inference.upscale import UpscaleOptions, load_upscaler
    from qdm_med.io.write import default_output

    options = UpscaleOptions(scale=scale, seed=seed, steps=steps, threshold=threshold, tile=tile)
    upscaler = load_upscaler(checkpoint, options, device=device)
    with SliceProgress() as progress:
        summary = upscale_series(
            series,
            out or default_output(series, scale),
            upscaler,
            progress=progress.slice_done,
            strict=strict,
            reader_options={"series_uid": series_uid, "force": force, "skip_bad": skip_bad},
            writer_options={
                "overwrite": overwrite,
                "private": private,
                "equipment": equipment,
                "transfer_syntax": transfer_syntax,
            },
        )
    typer.echo(json.dumps(asdict(summary), default=str) if as_json else summary_line(summary, scale))
