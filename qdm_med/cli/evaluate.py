"""``qdm-med eval``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer


def evaluate(
    benchmark: Annotated[str, typer.Option(help="med-sr4 or med-sr8.")],
    data: Annotated[Path, typer.Option(help="Slice store made by `qdm-med prepare`.")],
    checkpoint: Annotated[Path | None, typer.Option(help="Trained model. Default: the embedded one.")] = None,
    split: Annotated[str, typer.Option(help="Split of the store.")] = "val",
    steps: Annotated[str, typer.Option(help="Sampling steps, such as 1,4,15. Default: the model's.")] = "",
    threshold: Annotated[str, typer.Option(help="Quadtree thresholds, such as 0,0.15. Default: the model's.")] = "",
    every: Annotated[int, typer.Option(help="Take every n-th slice only.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of degradation and sampler.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    lpips_backbone: Annotated[
        Path | None, typer.Option(help="SqueezeNet 1.1 features (.npz, .safetensors) for the column lpips_squeeze.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for cases.jsonl and summary.json.")] = None,
) -> None:
    """Score a model against interpolation on Med-SR4 or Med-SR8."""
    from qdm_med.checkpoint import default_checkpoint, load_checkpoint
    from qdm_med.cli.progress import CountProgress
    from qdm_med.data.slices import SliceStore
    from qdm_med.device import pick_device
    from qdm_med.evaluation.benchmarks import BenchmarkOptions, run_benchmark, save_results, table
    from qdm_med.evaluation.evaluate import summarise
    from qdm_med.evaluation.perceptual import LpipsSqueeze

    options = BenchmarkOptions(
        benchmark, split, numbers(steps, int, "--steps"), numbers(threshold, float, "--threshold"), every, seed
    )
    perceptual = LpipsSqueeze(lpips_backbone) if lpips_backbone else None
    model = load_checkpoint(checkpoint or default_checkpoint())
    store = SliceStore.open(data)
    with CountProgress("slices") as progress:
        rows = run_benchmark(
            store, model, options, device=pick_device(device), perceptual=perceptual, progress=progress.update
        )
    if out is not None:
        save_results(out, rows, summarise(rows))
    patients = len({row.patient for row in rows})
    slices = len({row.sha256 for row in rows})
    typer.echo(f"{benchmark}, {split} split: {slices} slices of {patients} patients, data range 2 in [-1, 1]")
    typer.echo(table(rows))


Number = TypeVar("Number", int, float)


def numbers(text: str, kind: Callable[[str], Number], option: str) -> tuple[Number, ...]:
    """Read a list such as ``1,4,15``."""
    try:
        return tuple(kind(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 1,4", param_hint=option) from None
