"""``qdm-med upscale``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from qdm_med.cli.photo import UPSCALE_OPTIONS, refuse_others, upscale_photograph
from qdm_med.io.options import Equipment, Private, SyntaxName, WriterOptions
from qdm_med.natural.formats import is_photo

if TYPE_CHECKING:
    from qdm_med.inference.runs.preflight import Preflight

ModeName = Literal["faithful", "balanced", "detailed"]
ConsistencyName = Literal["off", "local", "spread", "soft", "hard"]
FusionName = Literal["gaussian", "halo"]
QuadtreeName = Literal["paper", "adaptive"]
PrecisionName = Literal["float32", "bfloat16"]
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
        QuadtreeName | None,
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
        PrecisionName,
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
    from qdm_med.cli.progress import CountProgress, SliceProgress, estimate_line, summary_line
    from qdm_med.inference.options import UpscaleOptions
    from qdm_med.inference.runs.estimate import estimate_volume
    from qdm_med.inference.runs.explain import explain_volume
    from qdm_med.inference.runs.preflight import look_at
    from qdm_med.inference.runs.series import name_of, upscale_volume
    from qdm_med.inference.upscaler import load_upscaler
    from qdm_med.io.read import read_volume
    from qdm_med.io.write import default_output

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
    target = out or default_output(series, scale)
    if report is not None:
        from qdm_med.evaluation.report.of_series import check_report_place, report_volume, slices_to_show

        check_report_place(report, series, target, overwrite=overwrite)
    upscaler = load_upscaler(checkpoint, options, device=device)
    if uncertainty:
        upscaler.require_samples()
    volume = read_volume(
        series,
        series_uid=series_uid,
        exclude=target,
        force=force,
        skip_bad=skip_bad,
        axis=axis,
        hu_offset=hu_offset,
        rescale_type_is_hu=rescale_type_is_hu,
    )
    seen = look_at(volume, upscaler.card)
    warn_of(seen, refused_as=name_of(volume) if strict else None)
    if max_memory is not None:
        spread = uncertainty or (report is not None and upscaler.samples > 1)
        upscaler.keep_below(int(max_memory * 2**30), volume.geometry.shape[1:], uncertainty=spread)
    if explain_quadtree is not None:
        with CountProgress("pictures") as pictures:
            explain_volume(volume, explain_quadtree, upscaler, progress=pictures.update)
    if dry_run:
        estimate = estimate_volume(volume, upscaler, uncertainty=uncertainty)
        told = asdict(estimate) | {"warnings": seen.warnings, "measured": seen.parameters()}
        typer.echo(json.dumps(told) if as_json else estimate_line(estimate, seen.parameters()))
        return
    watch = None if report is None else slices_to_show(volume)
    with SliceProgress() as progress:
        summary = upscale_volume(
            volume,
            target,
            upscaler,
            progress=progress.slice_done,
            uncertainty=uncertainty,
            writing=WriterOptions(overwrite, private, equipment, transfer_syntax),
            watch=watch,
            preflight=seen,
        )
    if report is not None and watch is not None:
        report_volume(volume, report, upscaler, summary, watch, options=asdict(options))
    typer.echo(json.dumps(asdict(summary), default=str) if as_json else summary_line(summary, scale))


def warn_of(seen: Preflight, *, refused_as: str | None) -> None:
    """Say on stderr, before anything is computed, what may make one stop; refuse it if the source is named."""
    if refused_as is not None:
        seen.refuse(refused_as)
    for line in seen.warnings:
        typer.echo(f"warning: {line}", err=True)
