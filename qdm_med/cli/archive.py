"""``qdm-med archive``: every CT series of a tree, on this machine or on many."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qdm_med.cli.cluster import CLUSTER_HELP, Slurm, Threads, Workers, wanted_cluster
from qdm_med.inference import names
from qdm_med.inference.names import ConsistencyName, ModeName
from qdm_med.io.options import Equipment, Private, SyntaxName, WriterOptions
from qdm_med.models.qdm.names import QuadtreeKind

if TYPE_CHECKING:
    from qdm_med.archive.run import Request
    from qdm_med.inference.options import UpscaleOptions

app = typer.Typer(help="Super-resolve every CT series of a tree, on this machine or on many.", no_args_is_help=True)

Tree = Annotated[Path, typer.Argument(help="Folder with DICOM, NIfTI, NRRD, MetaImage and zip files, at any depth.")]
Out = Annotated[Path, typer.Option(help="Root of the outputs, outside of TREE; made if absent.")]
Result = Annotated[Path, typer.Argument(help="The --out of `archive run` or `archive plan`.")]
Scale = Annotated[int, typer.Option(help="Magnification of rows and columns: 4 or 8.")]
CheckpointFile = Annotated[
    Path | None, typer.Option(help="Trained model, the same file for all workers. Default: the embedded one.")
]
Device = Annotated[str, typer.Option(help="Where workers compute: auto, cpu, cuda or mps.")]
Seed = Annotated[int, typer.Option(help="Noise seed; the same seed gives the same images.")]
ModeOption = Annotated[ModeName, typer.Option(help="faithful, balanced or detailed, see `upscale`.")]
Steps = Annotated[int | None, typer.Option(help="Sampling steps. Default: the mode's.")]
Samples = Annotated[int | None, typer.Option(help="Samples whose mean is taken. Default: the mode's.")]
Temperature = Annotated[float | None, typer.Option(help="Factor on the noise. Default: the mode's.")]
Consistency = Annotated[ConsistencyName, typer.Option(help="Agreement with the source's HU: off, local, soft or hard.")]
Uncertainty = Annotated[
    bool, typer.Option("--uncertainty", help="Write the samples' standard deviation beside each series.")
]
QuadtreeOption = Annotated[QuadtreeKind | None, typer.Option(help="paper or adaptive. Default: the model's.")]
Threshold = Annotated[float | None, typer.Option(help="Quadtree threshold. Default: the model's.")]
NoiseFactor = Annotated[float | None, typer.Option(help="Adaptive quadtree: times the range of noise alone.")]
Tile = Annotated[int | None, typer.Option(help="Side of a tile in source pixels. Default: the model's.")]
Precision = Annotated[names.Precision, typer.Option(help="float32, or bfloat16, which is faster on GPUs only.")]
MaxMemory = Annotated[float | None, typer.Option(help="GiB that a series may take; tiles are made small enough.")]
Force = Annotated[bool, typer.Option("--force", help="Accept sources that qdm-med has made.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse series unlike what the model was trained on.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out DICOM slices that cannot be read.")]
PrivateOption = Annotated[Private, typer.Option(help="Private DICOM elements: keep or drop.")]
EquipmentOption = Annotated[Equipment, typer.Option(help="General Equipment of the outputs: keep or standard.")]
TransferSyntax = Annotated[SyntaxName, typer.Option(help="Encoding of DICOM output, see `upscale`; none loses.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def plan(
    tree: Tree,
    out: Out,
    scale: Scale = 4,
    checkpoint: CheckpointFile = None,
    device: Device = "auto",
    seed: Seed = 0,
    mode: ModeOption = "balanced",
    steps: Steps = None,
    samples: Samples = None,
    temperature: Temperature = None,
    consistency: Consistency = "local",
    uncertainty: Uncertainty = False,
    quadtree: QuadtreeOption = None,
    threshold: Threshold = None,
    noise_factor: NoiseFactor = None,
    tile: Tile = None,
    precision: Precision = "float32",
    max_memory: MaxMemory = None,
    strict: Strict = False,
    skip_bad: SkipBad = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Scan TREE once and say what a run would do: series, seconds, memory, bytes, and why one is refused."""
    from qdm_med.archive.run import plan_only
    from qdm_med.cli.archive_words import plan_lines
    from qdm_med.inference.options import UpscaleOptions

    others = {"uncertainty": uncertainty, "strict": strict, "skip_bad": skip_bad, "force": force}
    options = UpscaleOptions(
        scale=scale,
        seed=seed,
        mode=mode,
        steps=steps,
        samples=samples,
        temperature=temperature,
        consistency=consistency,
        quadtree=quadtree,
        threshold=threshold,
        noise_factor=noise_factor,
        tile=tile,
        precision=precision,
    )
    manifest = plan_only(_request(tree, out, checkpoint, device, options, max_memory, others))
    typer.echo(json.dumps(asdict(manifest), default=str) if as_json else plan_lines(manifest, out))


@app.command()
def run(
    tree: Tree,
    out: Out,
    cluster: Annotated[str, typer.Option(help=CLUSTER_HELP)] = "local",
    workers: Workers = None,
    threads: Threads = None,
    slurm: Slurm = None,
    dashboard: Annotated[
        int | None, typer.Option(help="Port of Dask's dashboard on this machine. Default: none.")
    ] = None,
    rescan: Annotated[
        bool | None,
        typer.Option(help="Look at TREE again. Default: unless a plan is there that no run has come to the end of."),
    ] = None,
    scale: Scale = 4,
    checkpoint: CheckpointFile = None,
    device: Device = "auto",
    seed: Seed = 0,
    mode: ModeOption = "balanced",
    steps: Steps = None,
    samples: Samples = None,
    temperature: Temperature = None,
    consistency: Consistency = "local",
    uncertainty: Uncertainty = False,
    quadtree: QuadtreeOption = None,
    threshold: Threshold = None,
    noise_factor: NoiseFactor = None,
    tile: Tile = None,
    precision: Precision = "float32",
    max_memory: MaxMemory = None,
    strict: Strict = False,
    skip_bad: SkipBad = False,
    force: Force = False,
    private: PrivateOption = "keep",
    equipment: EquipmentOption = "keep",
    transfer_syntax: TransferSyntax = "explicit",
    as_json: AsJson = False,
) -> None:
    """Super-resolve every CT series of TREE, each exactly once; start it again to go on after a kill."""
    from qdm_med.archive.run import run_archive
    from qdm_med.cli.archive_words import run_lines
    from qdm_med.cli.progress import CountProgress
    from qdm_med.inference.options import UpscaleOptions

    options = UpscaleOptions(
        scale=scale,
        seed=seed,
        mode=mode,
        steps=steps,
        samples=samples,
        temperature=temperature,
        consistency=consistency,
        quadtree=quadtree,
        threshold=threshold,
        noise_factor=noise_factor,
        tile=tile,
        precision=precision,
    )
    others = {
        "uncertainty": uncertainty,
        "strict": strict,
        "skip_bad": skip_bad,
        "force": force,
        "writing": WriterOptions(False, private, equipment, transfer_syntax),
    }
    wanted = wanted_cluster(cluster, workers, threads, slurm, dashboard=dashboard)
    with CountProgress("series") as progress:
        summary = run_archive(
            _request(tree, out, checkpoint, device, options, max_memory, others),
            wanted,
            rescan=rescan,
            watch=lambda now: progress.update(now.done, now.series, f"{now.slices_per_second:.2f} slices/s"),
        )
    typer.echo(json.dumps(asdict(summary), default=str) if as_json else run_lines(summary))
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def status(
    result: Result,
    as_json: Annotated[bool, typer.Option("--json", help="Print every event so far, one JSON line each.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the run ends.")] = False,
) -> None:
    """Say where a run is: done, running, failed, slices a second, active leaves, time left."""
    from rich.console import Console
    from rich.live import Live

    from qdm_med.archive.folder import ArchiveFolder
    from qdm_med.archive.status import events, read_status, watched
    from qdm_med.cli.archive_words import status_table

    folder = ArchiveFolder.existing(result)
    if as_json:
        for event in events(folder, follow=follow):
            typer.echo(json.dumps(event))
        typer.echo(json.dumps({"event": "status", **asdict(read_status(folder))}))
        return
    console = Console()
    if not follow:
        console.print(status_table(read_status(folder)))
        return
    with Live(console=console, auto_refresh=False) as live:
        for snapshot in watched(folder):
            live.update(status_table(snapshot), refresh=True)


@app.command()
def report(
    result: Result,
    html: Annotated[Path | None, typer.Option(help="HTML file to write; it needs no network.")] = None,
    table: Annotated[Path | None, typer.Option("--csv", help="CSV file to write: one line a series.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write figures and reasons over all series of an archive, as a page, as a table, or in one line."""
    from qdm_med.archive.folder import ArchiveFolder
    from qdm_med.archive.report import write_reports
    from qdm_med.cli.archive_words import figures_line

    figures = write_reports(ArchiveFolder.existing(result), html, table)
    typer.echo(json.dumps(figures) if as_json else figures_line(figures))


@app.command()
def verify(
    result: Result,
    slices: Annotated[int, typer.Option(min=1, help="Slices to make again, drawn over all finished series.")] = 5,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw. Default: another one each time.")] = None,
    checkpoint: CheckpointFile = None,
    device: Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Make random slices again from their receipts and compare; exit code 1 if anything differs."""
    from qdm_med.archive.folder import ArchiveFolder
    from qdm_med.archive.verify import verify_archive
    from qdm_med.checkpoints.model import default_checkpoint
    from qdm_med.cli.archive_words import verify_lines

    found = verify_archive(
        ArchiveFolder.existing(result),
        checkpoint or default_checkpoint(),
        slices=slices,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        device=device,
    )
    typer.echo(json.dumps(asdict(found)) if as_json else verify_lines(found))
    if found.differences:
        raise typer.Exit(1)


def _request(
    tree: Path,
    out: Path,
    checkpoint: Path | None,
    device: str,
    options: UpscaleOptions,
    max_memory: float | None,
    others: dict[str, Any],
) -> Request:
    from qdm_med.archive.run import Request
    from qdm_med.checkpoints.model import default_checkpoint

    limit = None if max_memory is None else int(max_memory * 2**30)
    model = checkpoint or default_checkpoint()
    return Request.of(tree, out, model, options, device, max_memory=limit, **others)
