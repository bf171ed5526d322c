"""Run a checkpoint in every way, and what it is compared with, at both scales: one table and one plot.

Usage: python benchmarks/perception_distortion.py STORE LPIPS_BACKBONE OUT [--checkpoint FILE] [--every 1]
           [--x4 WEIGHTS,...] [--x8 WEIGHTS,...] [--steps 1,2,4,8,15] [--samples 8] [--threads 1]
           [--latent CHECKPOINT,...] [--consistency off,local]

Bicubic, Lanczos, the checkpoint at several steps, the mean of some samples, the modes `faithful` and `detailed`, image
networks (--x4, --x8: weights that `qdm-med eval --image-model` takes) and models on the same autoencoder (--latent), each
at each --consistency, if that is given. The two scales run beside each other, a process each, and go on where they were stopped; OUT gets their results, curve.md and
curve.png.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from qdm_med.checkpoints.model import default_checkpoint, load_checkpoint
from qdm_med.evaluation.benchmarks import BENCHMARK_SCALES, BenchmarkOptions, Scoring
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.evaluation.tables.curve import curve_points, curve_table, draw_curve


def rows_of(benchmark: str, given: argparse.Namespace) -> tuple[SliceScore, ...]:
    """Run one benchmark."""
    torch.set_num_threads(given.threads)
    weights = given.x4 if BENCHMARK_SCALES[benchmark] == 4 else given.x8
    options = BenchmarkOptions(
        benchmark,
        steps=tuple(int(number) for number in given.steps.split(",")),
        every=given.every,
        methods=("bicubic", "lanczos", "qdm", "faithful", "detailed"),
        latent_models=tuple(Path(name) for name in given.latent.split(",") if name),
        image_models=tuple(Path(name) for name in weights.split(",") if name),
        consistency=tuple(name for name in given.consistency.split(",") if name),
        fidelity=False,
        samples=given.samples,
    )
    return evaluate_checkpoint(
        given.store,
        load_checkpoint(given.checkpoint),
        options,
        device=torch.device("cpu"),
        scoring=Scoring(Lpips(given.backbone)),
        outputs=Outputs(given.out / benchmark),
    ).rows


def main() -> None:
    """Run both, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("store", "backbone", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint("benchmark"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--latent", default="")
    parser.add_argument("--consistency", default="")
    parser.add_argument("--x4", default="")
    parser.add_argument("--x8", default="")
    parser.add_argument("--steps", default="1,2,4,8,15")
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    with ProcessPoolExecutor(len(BENCHMARK_SCALES), mp_context=get_context("spawn")) as pool:
        runs = [pool.submit(rows_of, benchmark, given) for benchmark in BENCHMARK_SCALES]
        rows = [row for run in runs for row in run.result()]
    points = curve_points(rows)
    text = curve_table(points).markdown()
    (given.out / "curve.md").write_text(f"{text}\n", encoding="utf-8")
    with (given.out / "curve.png").open("wb") as picture:
        draw_curve(points, picture)
    print(text)


if __name__ == "__main__":
    main()
