"""``qdm-med archive``: every CT series of a tree, on this machine or on many."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.cluster import CLUSTER_HELP, CLUSTER_PANEL, Slurm, Threads, Workers, wanted_cluster

if TYPE_CHECKING:
    from qdm_med.archive.request import Request
    from qdm_med.archive.tally import Snapshot

app = typer.Typer(help="Super-resolve every CT series of a tree, on this machine or on many.", no_args_is_help=True)

Tree = Annotated[Path, typer.Argument(help="Folder with DICOM, NIfTI, NRRD, MetaImage and zip files, at any depth.")]
Out = Annotated[Path, typer.Option(help="Root of the outputs, outside of TREE; made if absent.")]
Result = Annotated[Path, typer.Argument(help="The --out of `archive run` or `archive plan`.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]


@app.command()
def plan(
    context: typer.Context,
    tree: Tree,
    out: Out,
    scale: opt.Scale = 4,
    matrix: opt.Matrix = None,
    spacing: opt.Spacing = None,
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
    quadtree: opt.Quadtree = None,
    threshold: opt.Threshold = None,
    noise_factor: opt.NoiseFactor = None,
    tile: opt.Tile = None,
    fusion: opt.Fusion = None,
    precision: opt.Precision = "float32",
    max_memory: opt.MaxMemory = None,
    strict: opt.Strict = False,
    skip_bad: opt.SkipBad = False,
    rescale_type_is_hu: opt.RescaleTypeIsHu = False,
    force: opt.Force = False,
    as_json: AsJson = False,
) -> None:
    """Scan TREE once and say what a run would do: series, seconds, memory, bytes, and why one is refused."""
    from qdm_med.archive.run import plan_only
    from qdm_med.cli.archive_words import plan_lines
    from qdm_med.cli.progress import stage

    with stage(f"looking at every file of {tree}"):
        manifest = plan_only(_request(tree, out, checkpoint, context.params))
    typer.echo(json.dumps(asdict(manifest), default=str) if as_json else plan_lines(manifest, out))


@app.command()
def run(
    context: typer.Context,
    tree: Tree,
    out: Out,
    cluster: Annotated[str, typer.Option(rich_help_panel=CLUSTER_PANEL, help=CLUSTER_HELP)] = "local",
    workers: Workers = None,
    threads: Threads = None,
    slurm: Slurm = None,
    dashboard: Annotated[
        int | None,
        typer.Option(rich_help_panel=CLUSTER_PANEL, help="Port of Dask's dashboard on this machine. Default: none."),
    ] = None,
    rescan: Annotated[
        bool | None,
        typer.Option(help="Look at TREE again. Default: unless a plan is there that no run has come to the end of."),
    ] = None,
    scale: opt.Scale = 4,
    matrix: opt.Matrix = None,
    spacing: opt.Spacing = None,
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
    quadtree: opt.Quadtree = None,
    threshold: opt.Threshold = None,
    noise_factor: opt.NoiseFactor = None,
    tile: opt.Tile = None,
    fusion: opt.Fusion = None,
    precision: opt.Precision = "float32",
    max_memory: opt.MaxMemory = None,
    strict: opt.Strict = False,
    skip_bad: opt.SkipBad = False,
    rescale_type_is_hu: opt.RescaleTypeIsHu = False,
    force: opt.Force = False,
    private: opt.Private = "keep",
    equipment: opt.Equipment = "keep",
    transfer_syntax: opt.TransferSyntax = "explicit",
    as_json: AsJson = False,
) -> None:
    """Super-resolve every CT series of TREE, each exactly once; start it again to go on after a kill."""
    from qdm_med.archive.run import run_archive
    from qdm_med.cli.archive_words import run_lines
    from qdm_med.cli.progress import CountProgress

    wanted = wanted_cluster(cluster, workers, threads, slurm, dashboard=dashboard)
    furthest = 0.0

    def watch(now: Snapshot) -> None:
        nonlocal furthest
        furthest = max(furthest, now.series_done)  # a worker that is lost takes its share with it
        progress.update(furthest, now.series, f"{now.slices_per_second:.2f} slices/s")

    with CountProgress("series", before=f"looking at every file of {tree}") as progress:
        summary = run_archive(
            _request(tree, out, checkpoint, context.params),
            wanted,
            rescan=rescan,
            watch=watch,
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
    checkpoint: opt.Checkpoint = None,
    device: opt.Device = "auto",
    as_json: AsJson = False,
) -> None:
    """Make random slices again from their receipts and compare; exit code 1 if anything differs."""
    from qdm_med.archive.folder import ArchiveFolder
    from qdm_med.archive.verify import verify_archive
    from qdm_med.checkpoints.model import find_checkpoint
    from qdm_med.cli.archive_words import verify_lines

    found = verify_archive(
        ArchiveFolder.existing(result),
        find_checkpoint(checkpoint),
        slices=slices,
        seed=secrets.randbelow(2**32) if seed is None else seed,
        device=device,
    )
    typer.echo(json.dumps(asdict(found)) if as_json else verify_lines(found))
    if found.differences:
        raise typer.Exit(1)


def _request(tree: Path, out: Path, checkpoint: Path | None, given: Mapping[str, Any]) -> Request:
    from qdm_med.archive.request import Request
    from qdm_med.checkpoints.model import find_checkpoint
    from qdm_med.inference.runs.matrix import Grid

    return Request.of(
        tree,
        out,
        find_checkpoint(checkpoint),
        opt.upscale_options(given),
        given["device"],
        grid=Grid(given["matrix"], given["spacing"]),
        max_memory=opt.memory_limit(given["max_memory"]),
        writing=opt.writer_options(given),
        **{name: given[name] for name in ("uncertainty", "strict", "skip_bad", "force", "rescale_type_is_hu")},
    )
