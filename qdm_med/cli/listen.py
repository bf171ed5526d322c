"""``qdm-med listen``: super-resolve the series that other nodes push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli import options as opt
from qdm_med.cli.talk import TALK, Lines, stamped


def listen(
    context: typer.Context,
    spool: Annotated[Path, typer.Option(help="Folder for what is received and not yet done; made if absent.")],
    allow: Annotated[list[str], typer.Option(help="A node that may push series, TITLE@HOST; repeat it for more.")],
    to: Annotated[str, typer.Option(help="Where results go: TITLE@HOST:PORT or the URL of a DICOMweb service.")],
    title: Annotated[str, typer.Option(help="Our own application entity title.")] = "QDM_MED",
    host: Annotated[str, typer.Option(help="Address to listen at. Default: this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 11112,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds without a new instance after which a series is complete.")
    ] = 5.0,
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
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            rich_help_panel=opt.QUALITY,
            help="Send the samples' standard deviation in HU, too, as a series of its own.",
        ),
    ] = False,
    quadtree: opt.Quadtree = None,
    threshold: opt.Threshold = None,
    noise_factor: opt.NoiseFactor = None,
    tile: opt.Tile = None,
    fusion: opt.Fusion = None,
    precision: opt.Precision = "float32",
    max_memory: opt.MaxMemory = None,
    force: opt.Force = False,
    private: opt.Private = "keep",
    equipment: opt.Equipment = "keep",
    transfer_syntax: opt.TransferSyntax = "explicit",
    skip_bad: opt.SkipBad = False,
    rescale_type_is_hu: opt.RescaleTypeIsHu = False,
    strict: opt.Strict = False,
) -> None:
    """Be a DICOM node that super-resolves pushed series and sends them on; needs the extra pacs.

    What is refused, by --strict or because it cannot be read, is put aside in the spool with the reason.
    """
    from qdm_med.inference.runs.matrix import Grid
    from qdm_med.inference.runs.scales import load_upscalers
    from qdm_med.pacs.addresses import parse_caller, parse_destination, require_title
    from qdm_med.pacs.listen import Making, Worker
    from qdm_med.pacs.listen import listen as serve
    from qdm_med.pacs.receiver import Door

    door = Door(require_title(title), host, port, tuple(map(parse_caller, allow)))
    destination = parse_destination(to)
    grid = Grid(matrix, spacing)
    upscalers = load_upscalers(checkpoint, opt.upscale_options(context.params), device=device, grid=grid)
    for one in upscalers.all():  # what is wrong is told now rather than of every series
        if uncertainty:
            one.require_samples()
    making = Making(
        reading=opt.reading_options(context.params),
        strict=strict,
        uncertainty=uncertainty,
        max_memory=opt.memory_limit(max_memory),
        writing=opt.writer_options(context.params),
    )

    serve(
        spool,
        door,
        lambda held: Worker(
            held, upscalers, destination, title=door.title, report=_report, making=making, watch=JobLines()
        ),
        report=_report,
        settle=settle,
    )


class JobLines:
    """Lines about the job in hand, at most every ten seconds, with the time left."""

    def __init__(self) -> None:
        self._job, self._lines = 0, Lines("slices")

    def __call__(self, job: int, done: float, total: int) -> None:
        """Say how far a job is, if it is time to."""
        if job != self._job:
            self._job, self._lines = job, Lines("slices", lambda line: _report(f"job {job}: {line}"))
        self._lines.update(done, total)


def _report(line: str) -> None:
    typer.echo(stamped(line), err=True)
    TALK.note(line)
