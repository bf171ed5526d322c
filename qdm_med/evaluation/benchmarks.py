"""Med-SR4 and Med-SR8 (paper section 5.1): whole slices, degraded with a fixed seed, scored method by method."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from qdm_med.checkpoint import Checkpoint
from qdm_med.data.degradation import BENCHMARK
from qdm_med.data.pairs import full_pairs
from qdm_med.data.slices import SliceStore
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.schedule import ResidualShiftSchedule, trailing_timesteps
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.baselines import bicubic, lanczos
from qdm_med.evaluation.evaluate import Method, SliceScore, Summary, evaluate, summarise
from qdm_med.evaluation.perceptual import LpipsSqueeze
from qdm_med.inference.super_resolution import slice_draws, super_resolve

BENCHMARK_SCALES: Mapping[str, int] = MappingProxyType({"med-sr4": 4, "med-sr8": 8})
"""Benchmark name -> magnification."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """What is run.

    Attributes:
        benchmark: ``"med-sr4"`` or ``"med-sr8"``.
        split: Split of the store.
        steps: Numbers of sampling steps; empty: the checkpoint's default.
        thresholds: Quadtree thresholds; empty: the checkpoint's default.
        every: Take every n-th slice of the split.
        seed: Seed of the degradation and of the sampler.
    """

    benchmark: str
    split: str = "val"
    steps: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        """Reject what cannot be run."""
        if self.benchmark not in BENCHMARK_SCALES:
            raise ConfigError(f"benchmark {self.benchmark!r} is unknown; known: {', '.join(BENCHMARK_SCALES)}")
        if self.every < 1:
            raise ConfigError(f"every must be at least 1, got {self.every}")

    @property
    def scale(self) -> int:
        """Magnification of the benchmark."""
        return BENCHMARK_SCALES[self.benchmark]


def qdm_methods(checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> dict[str, Method]:
    """The checkpoint at every combination of steps and thresholds.

    Raises:
        CheckpointError: If the checkpoint does not serve the benchmark's scale.
    """
    card, denoiser = checkpoint.card, checkpoint.denoiser
    if denoiser is None:
        raise CheckpointError(f"model {card.name} is an autoencoder without a denoiser; evaluate a trained model")
    default_steps = card.steps_for(options.scale)
    full = ResidualShiftSchedule.from_config(card.schedule)
    autoencoder, denoiser = checkpoint.autoencoder.to(device), denoiser.to(device)

    def method(steps: int, threshold: float) -> Method:
        schedule = full.respaced(trailing_timesteps(len(full), steps))

        def run(low_res: Tensor, scale: int) -> Tensor:
            key = hashlib.sha256(low_res.contiguous().numpy().tobytes()).hexdigest()
            draws = slice_draws(
                SliceNoise(options.seed, key, 0.0),
                (low_res.shape[-2], low_res.shape[-1]),
                channels=card.autoencoder.latent_channels,
                scale=scale,
                device=device,
            )
            return super_resolve(
                autoencoder,
                denoiser,
                low_res.to(device),
                scale=scale,
                schedule=schedule,
                threshold=threshold,
                noise=draws,
            ).image.cpu()

        return run

    combinations = itertools.product(options.thresholds or (card.threshold,), options.steps or (default_steps,))
    return {f"{card.name}, {n} steps, s = {s:g}": method(n, s) for s, n in combinations}


def run_benchmark(
    store: SliceStore,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    *,
    device: torch.device,
    perceptual: LpipsSqueeze | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SliceScore]:
    """Score bicubic, Lanczos and the checkpoint on every slice of the benchmark.

    Args:
        store: Slices.
        checkpoint: Model.
        options: What is run.
        device: Where the model runs.
        perceptual: LPIPS, if its column is wanted.
        progress: Told of every slice.

    Returns:
        One row for each method and slice.
    """
    methods: dict[str, Method] = {"bicubic": bicubic, "lanczos": lanczos, **qdm_methods(checkpoint, options, device)}
    total = len(range(0, len(store.indices(options.split)), options.every))
    intensity = checkpoint.card.intensity
    pairs = itertools.islice(
        full_pairs(store, options.split, options.scale, BENCHMARK, options.seed, intensity=intensity),
        0,
        None,
        options.every,
    )
    rows: list[SliceScore] = []
    for row in evaluate(methods, pairs, intensity=intensity, perceptual=perceptual):
        rows.append(row)
        progress(len(rows) // len(methods), total)
    return rows


def save_results(folder: Path, rows: Iterable[SliceScore], summaries: Sequence[Summary]) -> None:
    """Write every case (``cases.jsonl``) and the summary (``summary.json``)."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
    (folder / "cases.jsonl").write_text(cases)
    (folder / "summary.json").write_text(json.dumps([asdict(summary) for summary in summaries], indent=2) + "\n")


def table(rows: Sequence[SliceScore]) -> str:
    """Means over patients with 95 % confidence intervals, a method a line, as Markdown."""
    summaries = summarise(rows)
    metrics = list(dict.fromkeys(summary.metric for summary in summaries))
    methods = list(dict.fromkeys(summary.method for summary in summaries))
    cells = {(summary.method, summary.metric): _cell(summary) for summary in summaries}
    seconds = {name: [row.seconds for row in rows if row.method == name] for name in methods}
    lines = ["| method | " + " | ".join(metrics) + " | s a slice |", "|---" * (len(metrics) + 2) + "|"]
    for name in methods:
        told = [cells[name, metric] for metric in metrics]
        lines.append(f"| {name} | " + " | ".join(told) + f" | {sum(seconds[name]) / len(seconds[name]):.2f} |")
    return "\n".join(lines)


def _cell(summary: Summary) -> str:
    digits = 2 if summary.metric.endswith(("_db", "_hu")) else 4
    mean = f"{summary.mean:.{digits}f}"
    if summary.interval is None:
        return mean
    return f"{mean} ({summary.interval[0]:.{digits}f} to {summary.interval[1]:.{digits}f})"
