"""Photographs in ``qdm-med upscale`` and ``eval``: the same commands over the natural-image track."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

import typer

UPSCALE_OPTIONS = frozenset(
    {"series", "out", "scale", "checkpoint", "device", "seed", "steps", "threshold", "tile", "overwrite", "as_json"}
)
"""Options of ``upscale`` that mean something on photographs."""


EVAL_OPTIONS = frozenset(
    {
        *(
            "benchmark",
            "data",
            "checkpoint",
            "steps",
            "threshold",
            "sweep_threshold",
            "macs",
            "every",
            "seed",
            "device",
        ),
        *("lpips_backbone", "out"),
    }
)
"""Options of ``eval`` that mean something on photographs."""


def refuse_others(context: typer.Context, known: Collection[str], what: str) -> None:
    """Refuse options that do not apply to photographs instead of ignoring them.

    Raises:
        BadParameter: If there is one.
    """
    given = {name for name in context.params if context.get_parameter_source(name).name == "COMMANDLINE"}  # type: ignore[union-attr]
    if others := sorted(f"--{name.replace('_', '-')}" for name in given - set(known)):
        raise typer.BadParameter(f"{', '.join(others)} mean nothing on {what}; leave them out")


def upscale_photograph(
    series: Path,
    out: Path | None,
    *,
    scale: int,
    checkpoint: Path | None,
    device: str,
    seed: int,
    steps: int | None,
    threshold: float | None,
    tile: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Super-resolve a photograph."""
    from qdm_med.cli.progress import CountProgress
    from qdm_med.natural.upscale import PhotoOptions, load_photo_upscaler, upscale_photo

    if checkpoint is None:
        raise typer.BadParameter(
            "photographs need a natural-image checkpoint: give --checkpoint, trained by `qdm-med train` or converted "
            "from the released one by `qdm-med convert`; the embedded model is for CT"
        )
    options = PhotoOptions(seed=seed, steps=steps, threshold=threshold, tile=tile)
    upscaler = load_photo_upscaler(checkpoint, options, device=device)
    if scale != upscaler.card.scale:
        raise typer.BadParameter(f"model {upscaler.card.name} was trained for x{upscaler.card.scale}, not for x{scale}")
    with CountProgress("tiles") as tiles:
        summary = upscale_photo(series, out, upscaler, overwrite=overwrite, progress=tiles.update)
    if as_json:
        typer.echo(json.dumps(asdict(summary), default=str))
        return
    typer.echo(
        f"wrote {summary.out}: {summary.columns}x{summary.rows}, {summary.tiles} tiles, "
        f"{summary.active_leaves:.1%} of the leaves active, {summary.seconds:.1f} s"
    )


def evaluate_photographs(
    benchmark: str,
    data: Path | None,
    checkpoint: Path | None,
    *,
    steps: tuple[int, ...],
    thresholds: tuple[float, ...],
    count_macs: bool,
    every: int,
    seed: int,
    device: str,
    lpips_backbone: Path | None,
    out: Path | None,
) -> None:
    """Score a natural-image checkpoint on a benchmark of photographs."""
    from qdm_med.cli.progress import CountProgress
    from qdm_med.device import pick_device
    from qdm_med.evaluation.measures.perceptual import Lpips
    from qdm_med.natural.checkpoint import load_natural
    from qdm_med.natural.evaluate import NaturalEvaluation, evaluate_natural
    from qdm_med.natural.upscale import PhotoOptions

    if checkpoint is None or data is None:
        raise typer.BadParameter(
            f"{benchmark} needs a natural-image checkpoint and its folder; give --checkpoint, --data"
        )
    if len(steps) > 1:
        raise typer.BadParameter(f"{benchmark} takes one number of --steps a run, got {len(steps)}")
    options = PhotoOptions(seed=seed, steps=steps[0] if steps else None)
    wanted = NaturalEvaluation(benchmark, thresholds, options, every, count_macs)
    target = pick_device(device)
    with CountProgress("photographs") as photographs:
        found = evaluate_natural(
            data,
            load_natural(checkpoint),
            wanted,
            device=target,
            perceptual=Lpips(lpips_backbone).to(target) if lpips_backbone else None,
            progress=photographs.update,
        )
    if out is not None:
        found.write(out)
    typer.echo(found.text())
