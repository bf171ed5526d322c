"""``qdm-med upscale``: the signature of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli.photo import UPSCALE_OPTIONS, refuse_others, upscale_photograph
from qdm_med.inference.names import ConsistencyName, FusionName, ModeName, Precision
from qdm_med.io.options import Equipment, Private, SyntaxName, WriterOptions
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.natural.formats import is_photo

QUALITY, SOURCE, DICOM, PERFORMANCE = "Quality", "Source and its units", "DICOM output", "Performance"
"""Panels of the help; what has none is for every day."""


def upscale(
    context: typer.Context,
    series: Annotated[
        Path, typer.Option(help="DICOM folder; NIfTI, NRRD or MetaImage file; or a photograph (PNG, JPEG, WebP).")
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder or file to create. Default: SERIES with -srx4 or -srx8 added.")
    ] = None,
    scale: Annotated[int, typer.Option(help="Magnification of rows and columns: 4 or 8.")] = 4,
    matrix: Annotated[
        int | None,
        typer.Option(
            min=1, help="Pixels along the longer side: super-resolved by 4 or 8, then averaged by area to it."
        ),
    ] = None,
    spacing: Annotated[
        float | None, typer.Option(help="Pixel spacing in mm, instead of --matrix; met as whole pixels allow.")
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(help="Label file on the source's grid to carry along (nearest): OUT-labels beside OUT."),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Trained model: a file, or an embedded one: clinical (default) or benchmark.")
    ] = None,
    device: Annotated[str, typer.Option(rich_help_panel=PERFORMANCE, help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Noise seed; the same seed gives the same images.")] = 0,
    mode: Annotated[
        ModeName | None,
        typer.Option(
            rich_help_panel=QUALITY,
            help="faithful (least error and invention), balanced (one sample), or detailed (most texture). Default: the "
            "model's.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(rich_help_panel=QUALITY, help="Sampling steps. Default: the mode's.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(rich_help_panel=QUALITY, help="Samples whose mean is taken. Default: the mode's.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(rich_help_panel=QUALITY, help="Factor on the noise. Default: the mode's.")
    ] = None,
    consistency: Annotated[
        ConsistencyName | None,
        typer.Option(
            rich_help_panel=QUALITY,
            help="Agreement with the source's HU: off, local (neighbourhoods), spread (through its point spread), soft or hard "
            "(every pixel). Default: the model's.",
        ),
    ] = None,
    fwhm: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=QUALITY,
            help="Full width at half maximum of the source's point spread in its pixels. Default: estimated.",
        ),
    ] = None,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            rich_help_panel=QUALITY,
            help="Write the samples' standard deviation in HU, too: OUT-uncertainty beside OUT.",
        ),
    ] = False,
    report: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=QUALITY, help="HTML file to write: some slices before and after, figures and receipt."
        ),
    ] = None,
    quadtree: Annotated[
        QuadtreeKind | None,
        typer.Option(
            rich_help_panel=QUALITY,
            help="paper (one level) or adaptive (above the noise, patient only). Default: the model's.",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(rich_help_panel=QUALITY, help="Quadtree threshold; 0 refines everything. Default: the model's."),
    ] = None,
    noise_factor: Annotated[
        float | None,
        typer.Option(rich_help_panel=QUALITY, help="Adaptive quadtree: times the range of noise alone. Default: 1.3."),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            rich_help_panel=PERFORMANCE,
            help="Largest side of a tile in source pixels. Default: the model's, for the scale.",
        ),
    ] = None,
    fusion: Annotated[
        FusionName | None,
        typer.Option(
            rich_help_panel=PERFORMANCE,
            help="Fusion of tiles: gaussian (the paper's) or halo (few, large tiles). Default: the model's.",
        ),
    ] = None,
    precision: Annotated[
        Precision,
        typer.Option(rich_help_panel=PERFORMANCE, help="float32, or bfloat16, which is faster on GPUs only."),
    ] = "float32",
    max_memory: Annotated[
        float | None,
        typer.Option(
            rich_help_panel=PERFORMANCE, help="GiB of memory that the run may take; tiles are made small enough."
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", rich_help_panel=PERFORMANCE, help="Say what the run would do, cost and write, and stop."
        ),
    ] = False,
    explain_quadtree: Annotated[
        Path | None,
        typer.Option(rich_help_panel=QUALITY, help="Folder to create: a picture a slice of where detail is generated."),
    ] = None,
    series_uid: Annotated[
        str | None, typer.Option(rich_help_panel=SOURCE, help="SeriesInstanceUID, if the folder holds several.")
    ] = None,
    series_number: Annotated[
        int | None, typer.Option(rich_help_panel=SOURCE, help="SeriesNumber, to choose of several series.")
    ] = None,
    description: Annotated[
        str | None, typer.Option(rich_help_panel=SOURCE, help="Part of SeriesDescription, to choose of several series.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that is there.")] = False,
    force: Annotated[
        bool, typer.Option("--force", rich_help_panel=SOURCE, help="Accept a source that qdm-med has made.")
    ] = False,
    private: Annotated[
        Private, typer.Option(rich_help_panel=DICOM, help="Private DICOM elements: keep or drop.")
    ] = "keep",
    equipment: Annotated[
        Equipment,
        typer.Option(
            rich_help_panel=DICOM,
            help="General Equipment of the output: keep (the scanner's) or standard (PS3.3 C.12.1.1.5).",
        ),
    ] = "keep",
    transfer_syntax: Annotated[
        SyntaxName,
        typer.Option(
            rich_help_panel=DICOM,
            help="Encoding of DICOM output: explicit, rle, jpeg-ls, jpeg-2000, htj2k; none loses.",
        ),
    ] = "explicit",
    skip_bad: Annotated[
        bool,
        typer.Option(
            "--skip-bad",
            rich_help_panel=SOURCE,
            help="Leave out DICOM slices that cannot be read, instead of refusing.",
        ),
    ] = False,
    axis: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2,
            rich_help_panel=SOURCE,
            help="Axis of a volume file along which its slices lie. Default: by spacing and orientation.",
        ),
    ] = None,
    hu_offset: Annotated[
        float,
        typer.Option(
            rich_help_panel=SOURCE,
            help="Added to every value of the source, such as -1024 where that is missing; recorded.",
        ),
    ] = 0.0,
    rescale_type_is_hu: Annotated[
        bool,
        typer.Option(
            "--rescale-type-is-hu",
            rich_help_panel=SOURCE,
            help="DICOM: values are HU, whatever RescaleType says; recorded in the output.",
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", rich_help_panel=SOURCE, help="Refuse a series unlike what the model was trained on."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
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
    from qdm_med.inference.options import UpscaleOptions

    options = UpscaleOptions(
        scale=scale,
        seed=seed,
        mode=mode,
        steps=steps,
        samples=samples,
        temperature=temperature,
        consistency=consistency,
        fwhm=fwhm,
        quadtree=quadtree,
        threshold=threshold,
        noise_factor=noise_factor,
        tile=tile,
        fusion=fusion,
        precision=precision,
    )
    asked = Asked(
        checkpoint=checkpoint,
        device=device,
        options=options,
        writing=WriterOptions(overwrite, private, equipment, transfer_syntax),
        reading={
            "force": force,
            "skip_bad": skip_bad,
            "axis": axis,
            "hu_offset": hu_offset,
            "rescale_type_is_hu": rescale_type_is_hu,
        },
        matrix=matrix,
        spacing=spacing,
        uncertainty=uncertainty,
        strict=strict,
        max_memory=None if max_memory is None else int(max_memory * 2**30),
        report=report,
        explain_quadtree=explain_quadtree,
        also=tuple(also or ()),
        dry_run=dry_run,
        as_json=as_json,
    )
    UpscaleRun(asked).run(series, out, Choice(series_uid, series_number, description))
