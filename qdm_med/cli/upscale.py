"""``qdm-med upscale``: the signature of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.photo import UPSCALE_OPTIONS, refuse_others, upscale_photograph
from qdm_med.natural.formats import is_photo


def upscale(
    context: typer.Context,
    series: Annotated[
        Path, typer.Option(help="DICOM folder; NIfTI, NRRD or MetaImage file; or a photograph (PNG, JPEG, WebP).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder or file to create. Default: SERIES with -srx4 or -srx8 added.")
    ] = None,
    scale: opt.Scale = 4,
    matrix: opt.Matrix = None,
    spacing: opt.Spacing = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Label file on the source's grid to carry along (nearest): OUT-labels beside OUT."),
    ] = None,
    checkpoint: opt.Checkpoint = None,
    device: opt.Device = "auto",
    seed: opt.Seed = 0,
    mode: opt.Mode = None,
    steps: opt.Steps = None,
    samples: opt.Samples = None,
    temperature: opt.Temperature = None,
    consistency: opt.Consistency = None,
    fwhm: opt.Fwhm = None,
    uncertainty: opt.Uncertainty = False,
    report: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=opt.QUALITY, help="HTML file to write: some slices before and after, figures and receipt."
        ),
    ] = None,
    quadtree: opt.Quadtree = None,
    threshold: opt.Threshold = None,
    noise_factor: opt.NoiseFactor = None,
    tile: opt.Tile = None,
    fusion: opt.Fusion = None,
    precision: opt.Precision = "float32",
    max_memory: opt.MaxMemory = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=opt.PERFORMANCE, help="Say what the run would do, cost and write, and stop."
        ),
    ] = False,
    explain_quadtree: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=opt.QUALITY, help="Folder to create: a picture a slice of where detail is generated."
        ),
    ] = None,
    series_uid: Annotated[
        str | None, typer.Option(rich_help_panel=opt.SOURCE, help="SeriesInstanceUID, if the folder holds several.")
    ] = None,
    series_number: Annotated[
        int | None, typer.Option(rich_help_panel=opt.SOURCE, help="SeriesNumber, to choose of several series.")
    ] = None,
    description: Annotated[
        str | None,
        typer.Option(rich_help_panel=opt.SOURCE, help="Part of SeriesDescription, to choose of several series."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    force: opt.Force = False,
    private: opt.Private = "keep",
    equipment: opt.Equipment = "keep",
    transfer_syntax: opt.TransferSyntax = "explicit",
    skip_bad: opt.SkipBad = False,
    axis: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2,
            rich_help_panel=opt.SOURCE,
            help="Axis of a volume file along which its slices lie. Default: by spacing and orientation.",
        ),
    ] = None,
    hu_offset: Annotated[
        float,
        typer.Option(
            rich_help_panel=opt.SOURCE,
            help="Added to every value of the source, such as -1024 where that is missing; recorded.",
        ),
    ] = 0.0,
    rescale_type_is_hu: opt.RescaleTypeIsHu = False,
    strict: opt.Strict = False,
    as_json: opt.AsJson = False,
) -> None:
    """Super-resolve a CT series and write it as a new, derived series; or a photograph, with a checkpoint for those."""
    if is_photo(series):
        refuse_others(context, UPSCALE_OPTIONS, "photographs")
        upscale_photograph(
            series,
            out,
            scale=scale,
            checkpoint=checkpoint,
            device=device,
            seed=seed,
            steps=steps,
            threshold=threshold,
            tile=tile,
            overwrite=overwrite,
            as_json=as_json,
        )
        return
    from qdm_med.cli.upscale_run import Asked, Choice, UpscaleRun
    from qdm_med.inference.runs.matrix import Grid

    asked = Asked(
        checkpoint=checkpoint,
        device=device,
        options=opt.upscale_options(context.params),
        writing=opt.writer_options(context.params),
        reading=opt.reading_options(context.params),
        grid=Grid(matrix, spacing),
        uncertainty=uncertainty,
        strict=strict,
        max_memory=opt.memory_limit(max_memory),
        report=report,
        explain_quadtree=explain_quadtree,
        also=tuple(also or ()),
        dry_run=dry_run,
        as_json=as_json,
    )
    UpscaleRun(asked).run(series, out, Choice(series_uid, series_number, description))
