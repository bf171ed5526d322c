"""Parts of ``qdm-med eval``: inputs for other programs, scoring, glossary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from qdm_med.cli.progress import CountProgress

if TYPE_CHECKING:
    from qdm_med.archive.cluster import Wanted
    from qdm_med.checkpoints.model import Checkpoint
    from qdm_med.evaluation.benchmarks import BenchmarkOptions, Scoring


def export_inputs(data: Path, model: Checkpoint, options: BenchmarkOptions, out: Path, again: Path | None) -> None:
    """Write the inputs of a benchmark for other programs, or those of an earlier run again."""
    from qdm_med.evaluation.run import export_again, export_benchmark

    with CountProgress("slices") as progress:
        count = (
            export_again(data, again, options, out, progress.update)
            if again
            else export_benchmark(data, model, options, out, progress.update)
        )
    typer.echo(f"{out}: inputs of {count} slices; its README.txt says what to do with them")


def scoring_of(lpips_backbone: Path | None, wanted: Wanted | None, checkpoint: Path) -> Scoring:
    """Choose how slices are scored: with LPIPS or without, here or, if one is wanted, on a cluster."""
    from qdm_med.evaluation.benchmarks import Scoring
    from qdm_med.evaluation.measures.perceptual import Lpips

    perceptual = Lpips(lpips_backbone) if lpips_backbone else None
    if wanted is None:
        return Scoring(perceptual)
    from qdm_med.evaluation.on_cluster import ClusterScoring

    return Scoring(perceptual, ClusterScoring(wanted, checkpoint, lpips_backbone))


def tell_columns(asked: bool) -> None:
    """Print the glossary, and stop."""
    if asked:
        from qdm_med.evaluation.tables.glossary import glossary

        typer.echo(glossary())
        raise typer.Exit
