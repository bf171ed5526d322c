"""``qdm-med listen``: super-resolve the series that other nodes push."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdm_med.cli.talk import TALK, stamped
from qdm_med.inference.names import ConsistencyName, ModeName, Precision
from qdm_med.io.options import Equipment, Private, SyntaxName, WriterOptions
from qdm_med.models.qdm.names import QuadtreeKind


def listen(
    spool: Annotated[Path, typer.Option(help="Folder for what is received and not yet done; made if absent.")],
    allow: Annotated[list[str], typer.Option(help="A node that may push series, TITLE@HOST; repeat it for more.")],
    to: Annotated[str, typer.Option(help="Where results go: TITLE@HOST:PORT or the URL of a DICOMweb service.")],
    title: Annotated[str, typer.Option(help="Our own application entity title.")] = "QDM_MED",
    host: Annotated[str, typer.Option(help="Address to listen at. Default: this machine alone.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port; 0 takes a free one.")] = 11112,
    settle: Annotated[
        float, typer.Option(min=0, help="Seconds without a new instance after which a series is complete.")
    ] = 5.0,
    scale: Annotated[int, typer.Option(help="Magnification of rows and columns: 4 or 8.")] = 4,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Trained model: a file, or an embedded one: clinical (default) or benchmark.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    seed: Annotated[int, typer.Option(help="Noise seed; the same seed gives the same images.")] = 0,
    mode: Annotated[
        ModeName | None,
        typer.Option(
            help="faithful (least error and invention), balanced (one sample), or detailed. Default: the model's."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps. Default: the mode's.")] = None,
    samples: Annotated[int | None, typer.Option(help="Samples whose mean is taken. Default: the mode's.")] = None,
    temperature: Annotated[float | None, typer.Option(help="Factor on the noise. Default: the mode's.")] = None,
    consistency: Annotated[
        ConsistencyName | None,
        typer.Option(help="Agreement with the source's HU: off, local, spread, soft or hard. Default: the model's."),
    ] = None,
    quadtree: Annotated[
        QuadtreeKind | None,
        typer.Option(help="paper (one level) or adaptive (above the noise, patient only). Default: the model's."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Quadtree threshold; 0 refines everything. Default: the model's.")
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Side of a tile in source pixels. Default: 128 at x4, 64 at x8.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="float32, or bfloat16, which is faster on GPUs only.")
    ] = "float32",
    private: Annotated[Private, typer.Option(help="Private DICOM elements: keep or drop.")] = "keep",
    equipment: Annotated[
        Equipment,
        typer.Option(help="General Equipment of results: keep (the scanner's) or standard (PS3.3 C.12.1.1.5)."),
    ] = "keep",
    transfer_syntax: Annotated[
        SyntaxName, typer.Option(help="Encoding of results: explicit, rle, jpeg-ls, jpeg-2000 or htj2k.")
    ] = "explicit",
    strict: Annotated[
        bool, typer.Option("--strict", help="Put series aside that are unlike what the model was trained on.")
    ] = False,
) -> None:
    """Be a DICOM node that super-resolves pushed series and sends them on; needs the extra pacs."""
    from qdm_med.inference.options import UpscaleOptions
    from qdm_med.inference.upscaler import load_upscaler
    from qdm_med.pacs.addresses import parse_caller, parse_destination, require_title
    from qdm_med.pacs.listen import Worker
    from qdm_med.pacs.listen import listen as serve
    from qdm_med.pacs.receiver import Door

    door = Door(require_title(title), host, port, tuple(map(parse_caller, allow)))
    destination = parse_destination(to)
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
        tile=tile,
        precision=precision,
    )
    upscaler = load_upscaler(checkpoint, options, device=device)

    serve(
        spool,
        door,
        lambda held: Worker(
            held,
            upscaler,
            destination,
            title=door.title,
            report=_report,
            strict=strict,
            writing=WriterOptions(private=private, equipment=equipment, transfer_syntax=transfer_syntax),
        ),
        report=_report,
        settle=settle,
    )


def _report(line: str) -> None:
    typer.echo(stamped(line), err=True)
    TALK.note(line)
