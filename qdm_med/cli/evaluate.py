"""``qdm-med eval``: score a model on a benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.clinical import judge_clinically
from qdm_med.cli.cluster import Cluster, Slurm, Threads, Workers, wanted_cluster
from qdm_med.cli.data import data_or_phantoms
from qdm_med.cli.evaluate_run import export_inputs as write_inputs
from qdm_med.cli.evaluate_run import scoring_of, tell_columns
from qdm_med.cli.lists import named_folder, names, numbers
from qdm_med.cli.photo import EVAL_OPTIONS, evaluate_photographs, refuse_others
from qdm_med.cli.talk import TALK
from qdm_med.inference.names import ConsistencyName
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.natural.formats import BENCHMARKS

COMPARED, MEASURED, WRITTEN, ON_CLINICAL = (
    "What is compared",
    "What is measured",
    "What is written",
    "Benchmark clinical",
)
"""Panels of the help; what has none is for every day."""

CLINICAL = "clinical"
"""The benchmark that draws its slices itself."""


def evaluate(
    context: typer.Context,
    benchmark: Annotated[
        str,
        typer.Option(
            help="med-sr4, med-sr8, clinical (the tasks of a CT physicist); on photographs lsdir-test, realsr, realset80."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="Slice store made by `qdm-med prepare`, or a folder with CT files. clinical: may be left out. On "
            "photographs their folder."
        ),
    ] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Trained model. Default: the embedded one.")] = None,
    split: Annotated[str, typer.Option(help="Split of the store.")] = "val",
    methods: Annotated[
        str,
        typer.Option(
            rich_help_panel=COMPARED, help="Of bicubic, lanczos, qdm, faithful, detailed, dense, downstream-only."
        ),
    ] = "bicubic,lanczos,qdm,dense",
    latent_model: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=COMPARED, help="Checkpoint from `train --model`, on the same autoencoder, to compare with."
        ),
    ] = None,
    image_model: Annotated[
        list[Path] | None,
        typer.Option(
            rich_help_panel=COMPARED, help="Weights of BSRGAN, SwinIR or another image network, for spandrel."
        ),
    ] = None,
    results: Annotated[
        list[str] | None,
        typer.Option(
            rich_help_panel=COMPARED,
            help="NAME=DIR: score the files that another program made of the inputs of --export-inputs.",
        ),
    ] = None,
    export_inputs: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=COMPARED,
            help="Write the low-resolution slices as DICOM, NIfTI and 16-bit PNG into this folder; run nothing.",
        ),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=COMPARED,
            help="benchmark.json or inputs.json of an earlier run: --export-inputs writes its slices again, checked.",
        ),
    ] = None,
    steps: Annotated[
        str, typer.Option(rich_help_panel=COMPARED, help="Sampling steps, such as 1,4,15. Default: the model's.")
    ] = "",
    threshold: Annotated[
        str, typer.Option(rich_help_panel=COMPARED, help="Quadtree thresholds, such as 0,0.15. Default: the model's.")
    ] = "",
    quadtree: Annotated[
        QuadtreeKind | None,
        typer.Option(rich_help_panel=COMPARED, help="Kind of quadtree: paper or adaptive. Default: the model's."),
    ] = None,
    consistency: Annotated[
        str,
        typer.Option(
            rich_help_panel=COMPARED,
            help="Agreement with the input in HU, of off, local, spread, soft, hard. Default: the model's; image networks off.",
        ),
    ] = "",
    sweep_threshold: Annotated[
        str,
        typer.Option(
            rich_help_panel=COMPARED,
            help="Threshold ablation in place of the methods, such as 0,0.03,0.06,0.09,0.15,0.3.",
        ),
    ] = "",
    degrade_in: Annotated[
        str,
        typer.Option(
            rich_help_panel=MEASURED,
            help="Range in which slices are degraded: network (the model's) or window (the paper's).",
        ),
    ] = "network",
    degradation: Annotated[
        str,
        typer.Option(
            rich_help_panel=MEASURED,
            help="How slices are made coarse: paper (Med-SR4, Med-SR8), clinical or scanner (other benchmarks).",
        ),
    ] = "paper",
    macs: Annotated[
        bool, typer.Option("--macs", rich_help_panel=MEASURED, help="Count multiply-accumulates too, in a second run.")
    ] = False,
    fidelity: Annotated[bool, typer.Option(rich_help_panel=MEASURED, help="Measure fidelity too.")] = True,
    samples: Annotated[
        int,
        typer.Option(
            rich_help_panel=COMPARED,
            help="Score the mean of so many samples too, and how right their standard deviation is.",
        ),
    ] = 0,
    every: Annotated[int, typer.Option(help="Take every n-th slice only.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of degradation and sampler.")] = 0,
    device: opt.Device = "auto",
    lpips_backbone: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=MEASURED,
            help="SqueezeNet 1.1 or AlexNet features (.npz, .safetensors) for the column lpips_...",
        ),
    ] = None,
    cluster: Cluster = None,
    workers: Workers = None,
    threads: Threads = None,
    slurm: Slurm = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for receipt, cases, summary, manifest; a killed run goes on there.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(rich_help_panel=WRITTEN, help="HTML file to write; it needs no network.")
    ] = None,
    report_slices: Annotated[
        int,
        typer.Option(
            rich_help_panel=WRITTEN,
            min=0,
            help="Slices that --report shows, one a patient; 0: every one. Each takes 2 MB and its time again.",
        ),
    ] = 3,
    sheet: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=WRITTEN, help="PNG to write: all methods side by side, slices and enlarged boxes."
        ),
    ] = None,
    sheet_boxes: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=WRITTEN,
            help="CSV of its boxes: slice (checksum), top, left, height, width, label. Default: found.",
        ),
    ] = None,
    mode: Annotated[
        str, typer.Option(rich_help_panel=ON_CLINICAL, help="Modes of `upscale` to judge. Default: its default.")
    ] = "",
    scales: Annotated[str, typer.Option(rich_help_panel=ON_CLINICAL, help="Magnifications.")] = "4,8",
    per_patient: Annotated[
        int, typer.Option(rich_help_panel=ON_CLINICAL, help="Slices of each patient of --data.")
    ] = 1,
    phantom: Annotated[
        Path | None,
        typer.Option(rich_help_panel=ON_CLINICAL, help="A scan of your own phantom (CatPhan, ACR), judged as it is."),
    ] = None,
    regions: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=ON_CLINICAL, help="YAML or JSON file with the inserts and line pairs of --phantom."
        ),
    ] = None,
    glossary: Annotated[
        bool,
        typer.Option("--glossary", callback=tell_columns, is_eager=True, help="Say what every column means, and stop."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", rich_help_panel=ON_CLINICAL, help="Print JSON.")] = False,
) -> None:
    """Score a model: how good and how faithful on Med-SR4 or Med-SR8, or what a physicist would say of it (clinical)."""
    if benchmark in BENCHMARKS:
        refuse_others(context, EVAL_OPTIONS, "benchmarks of photographs")
        sweep = numbers(sweep_threshold, float, "--sweep-threshold")
        evaluate_photographs(
            benchmark,
            data,
            checkpoint,
            steps=numbers(steps, int, "--steps"),
            thresholds=sweep or numbers(threshold, float, "--threshold"),
            count_macs=macs or bool(sweep),
            every=every,
            seed=seed,
            device=device,
            lpips_backbone=lpips_backbone,
            out=out,
        )
        return
    if cluster and benchmark == CLINICAL:
        raise typer.BadParameter("med-sr4 and med-sr8 work on a cluster", param_hint="--cluster")
    from qdm_med.checkpoints.model import find_checkpoint, load_checkpoint
    from qdm_med.cli.progress import CountProgress
    from qdm_med.device import pick_device
    from qdm_med.evaluation.benchmarks import BenchmarkOptions
    from qdm_med.evaluation.run import Outputs, evaluate_checkpoint

    if benchmark == CLINICAL:
        from qdm_med.evaluation.clinical.options import clinical_options

        tasks = clinical_options(
            modes=names(mode),
            scales=numbers(scales, int, "--scales"),
            seed=seed,
            split=split,
            per_patient=per_patient,
            phantom=phantom,
            regions=regions,
        )
        judge_clinically(
            tasks, data=data, checkpoint=checkpoint, device=device, out=out, report=report, as_json=as_json
        )
        return
    data = context.with_resource(data_or_phantoms(data))
    options = BenchmarkOptions(
        benchmark,
        split=split,
        steps=numbers(steps, int, "--steps"),
        thresholds=numbers(threshold, float, "--threshold"),
        quadtree=quadtree,
        every=every,
        seed=seed,
        consistency=cast("tuple[ConsistencyName, ...]", names(consistency)),  # BenchmarkOptions knows them
        methods=names(methods),
        latent_models=tuple(latent_model or ()),
        image_models=tuple(image_model or ()),
        results=tuple(map(named_folder, results or ())),
        degrade_in=degrade_in,
        degradation=degradation,
        fidelity=fidelity,
        samples=samples,
        count_macs=macs,
    )
    if again and not export_inputs:
        raise typer.BadParameter("it says which inputs are written; give --export-inputs DIR too", param_hint="--again")
    file = find_checkpoint(checkpoint, "benchmark")
    model = load_checkpoint(file)
    if export_inputs:
        write_inputs(data, model, options, export_inputs, again)
        return
    wanted = wanted_cluster(cluster, workers, threads, slurm, device=device) if cluster else None
    if out is None:
        TALK.resume = "nothing was kept; with --out DIR a run goes on where it was"
    with CountProgress("slices", before=f"looking at {data}") as progress:
        found = evaluate_checkpoint(
            data,
            model,
            options,
            device=pick_device(device),
            scoring=scoring_of(lpips_backbone, wanted, file),
            sweep=numbers(sweep_threshold, float, "--sweep-threshold"),
            outputs=Outputs(out, report, sheet, sheet_boxes, report_slices),
            progress=progress.update,
        )
    typer.echo(found.text())
    if lpips_backbone is None:
        typer.echo(
            "no LPIPS column: give --lpips-backbone; `qdm-med lpips` makes the file from torchvision's weights",
            err=True,
        )
