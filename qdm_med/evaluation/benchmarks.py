"""Med-SR4 and Med-SR8 (paper section 5.1): whole slices, degraded with a fixed seed, scored method by method."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor

from qdm_med.checkpoint import Checkpoint
from qdm_med.data.degradation import BENCHMARK
from qdm_med.data.pairs import full_pairs
from qdm_med.data.slices import SliceStore
from qdm_med.errors import ConfigError
from qdm_med.evaluation.baselines import bicubic, lanczos
from qdm_med.evaluation.evaluate import Method, SliceScore, Summary, evaluate, summarise
from qdm_med.evaluation.perceptual import LpipsSqueeze
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscale import Upscaler
from qdm_med.volume import CtSlice

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
    """The checkpoint at every combination of steps and thresholds, exactly as ``qdm-med upscale`` runs it.

    Raises:
        CheckpointError: If the checkpoint does not serve the benchmark's scale.
        ConfigError: If steps or thresholds are out of range.
    """
    card = checkpoint.card
    thresholds = options.thresholds or (card.threshold,)
    steps = options.steps or (card.steps_for(options.scale),)
    methods = {}
    for threshold, number in itertools.product(thresholds, steps):
        how = UpscaleOptions(scale=options.scale, seed=options.seed, steps=number, threshold=threshold)
        methods[f"{card.name}, {number} steps, s = {threshold:g}"] = _method(Upscaler(checkpoint, how, device=device))
    return methods


def _method(upscaler: Upscaler) -> Method:
    intensity = upscaler.card.intensity

    def run(low_res: Tensor, scale: int) -> Tensor:
        hu = intensity.to_hu(low_res[0, 0].numpy())
        key = hashlib.sha256(hu.tobytes()).hexdigest()
        result = upscaler.upscale_slice(CtSlice(hu, np.zeros(hu.shape, dtype=bool), 0.0), key)
        return torch.from_numpy(intensity.to_unit(result.hu))[None, None]

    return run


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
    total = len(store.indices(options.split)[:: options.every])
    intensity = checkpoint.card.intensity
    pairs = full_pairs(
        store, options.split, options.scale, BENCHMARK, options.seed, intensity=intensity, every=options.every
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
