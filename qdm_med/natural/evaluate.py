"""Score of a checkpoint for photographs against bicubic, and the paper's Table 8 over thresholds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.measures.cost import count_macs
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.tables.table import Table
from qdm_med.files import write_text
from qdm_med.natural.benchmarks import NaturalCase, cases_of
from qdm_med.natural.checkpoint import NaturalCheckpoint
from qdm_med.natural.formats import BENCHMARKS
from qdm_med.natural.metrics import MEASURES, Scorer, how_to_blind, read_blind
from qdm_med.natural.upscale import PhotoOptions, PhotoUpscaler
from qdm_med.resample import upsample

BICUBIC = "bicubic"


@dataclass(frozen=True)
class NaturalEvaluation:
    """Options of an evaluation.

    Attributes:
        benchmark: ``lsdir-test``, ``realsr`` or ``realset80``.
        thresholds: Quadtree thresholds, a row each; none: the checkpoint's.
        options: Options of the checkpoint's run; its threshold is not looked at.
        every: Take every n-th photograph only.
        count_macs: Count multiply-accumulates.
    """

    benchmark: str
    thresholds: tuple[float, ...] = ()
    options: PhotoOptions = PhotoOptions()
    every: int = 1
    count_macs: bool = False

    def __post_init__(self) -> None:
        """Reject options that are no benchmark, before anything is loaded."""
        if self.benchmark not in BENCHMARKS:
            raise ConfigError(f"benchmark {self.benchmark!r} is unknown; known: {', '.join(BENCHMARKS)}")
        if self.every < 1:
            raise ConfigError(f"every must be at least 1, got {self.every}")


@dataclass(frozen=True)
class NaturalScore:
    """Scores of one method on one photograph.

    Attributes:
        case: Name of the photograph.
        method: Name of the method.
        figures: Measures by name.
        threshold: Quadtree threshold; ``None``: it has none.
        active_leaves: Share of active leaves, 0 to 1.
        windows: Downstream windows that were computed.
        windows_in_all: Downstream windows in all.
        macs: Multiply-accumulates, the VQGAN's included; 0 if they were not counted.
        seconds: Wall time.
    """

    case: str
    method: str
    figures: dict[str, float]
    threshold: float | None = None
    active_leaves: float = 0.0
    windows: int = 0
    windows_in_all: int = 0
    macs: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class NaturalResult:
    """All scores, and their tables.

    Attributes:
        benchmark: Its name.
        model: Name of the model.
        scores: Method by method for each photograph.
        missing: Packages to install for the measures that are not there; may be empty.
    """

    benchmark: str
    model: str
    scores: tuple[NaturalScore, ...]
    missing: str

    def table(self) -> Table:
        """Lay out a method a row, means over photographs, the cost beside the quality, as in the paper's Table 8."""
        measured = [one for one in MEASURES if all(one.name in score.figures for score in self.scores)]
        names = tuple(dict.fromkeys(score.method for score in self.scores))
        counted = any(score.macs for score in self.scores)
        head = ("method", "active leaves", "windows", *(("MAC",) if counted else ()), "s", *(m.name for m in measured))
        body = []
        for name in names:
            own = [score for score in self.scores if score.method == name]
            cells = [f"{_mean(own, one.name):.{one.digits}f}" for one in measured]
            body.append((name, *_cost(own, counted=counted), *cells))
        count = len(self.scores) // max(1, len(names))
        return Table(f"{self.benchmark}, {count} photographs, {self.model}: means", head, tuple(body))

    def text(self) -> str:
        """The table, and which measures are missing from it and why."""
        said = self.table().markdown()
        return f"{said}\n\n{self.missing}" if self.missing else said

    def write(self, folder: Path) -> None:
        """Write ``scores.json`` and ``table.md`` into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in (
            ("scores.json", json.dumps([asdict(score) for score in self.scores], indent=1)),
            ("table.md", self.text()),
        ):
            write_text(folder / name, f"{text}\n")


def _mean(scores: Sequence[NaturalScore], name: str) -> float:
    return float(np.mean([score.figures[name] for score in scores]))


def _cost(scores: Sequence[NaturalScore], *, counted: bool) -> tuple[str, ...]:
    if scores[0].threshold is None:
        return ("",) * (4 if counted else 3)
    mean_macs = float(np.mean([score.macs for score in scores]))
    told = f"{mean_macs / 1e12:.2f} T" if mean_macs >= 1e12 else f"{mean_macs / 1e9:.3f} G"
    macs = (told,) if counted else ()
    return (
        f"{np.mean([score.active_leaves for score in scores]):.2%}",
        f"{np.mean([score.windows for score in scores]):.1f} of {np.mean([s.windows_in_all for s in scores]):.1f}",
        *macs,
        f"{np.mean([score.seconds for score in scores]):.2f}",
    )


def evaluate_natural(
    folder: Path,
    checkpoint: NaturalCheckpoint,
    wanted: NaturalEvaluation,
    *,
    device: torch.device,
    perceptual: Lpips | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> NaturalResult:
    """Score bicubic and a checkpoint, at each threshold, on all photographs of a benchmark.

    Args:
        folder: Its photographs.
        checkpoint: VQGAN and denoiser.
        wanted: Options of the evaluation.
        device: Device of the networks.
        perceptual: LPIPS, on the device, if there is one.
        progress: Called with the number of photographs that are done, and again, since the number is not known before.

    Raises:
        QdmMedError: If a folder, a file, an option or the checkpoint is invalid.
    """
    thresholds = wanted.thresholds or (checkpoint.card.threshold,)
    upscalers = {
        f"s = {threshold:g}": PhotoUpscaler(checkpoint, replace(wanted.options, threshold=threshold), device=device)
        for threshold in thresholds
    }
    blind = read_blind(device)
    scorer = Scorer(perceptual, blind, device=device)
    scores: list[NaturalScore] = []
    scale, seed = checkpoint.card.scale, wanted.options.seed
    for number, case in enumerate(cases_of(wanted.benchmark, folder, scale=scale, seed=seed, every=wanted.every)):
        low_res = torch.from_numpy(case.low_res.unit())[None]
        scores.append(NaturalScore(case.name, BICUBIC, scorer(upsample(low_res, scale), case.high_res)))
        for (name, upscaler), threshold in zip(upscalers.items(), thresholds, strict=True):
            score = _score(case, upscaler, scorer, counted=wanted.count_macs)
            scores.append(replace(score, method=f"{checkpoint.card.name}, {name}", threshold=threshold))
        if progress is not None:
            progress(number + 1, number + 1)
    if not scores or not any(score.figures for score in scores):
        raise DataError(f"{folder}: nothing of {wanted.benchmark} can be measured here. {how_to_blind(blind)}")
    return NaturalResult(wanted.benchmark, checkpoint.card.name, tuple(scores), how_to_blind(blind))


def _score(case: NaturalCase, upscaler: PhotoUpscaler, scorer: Scorer, *, counted: bool) -> NaturalScore:
    def run() -> torch.Tensor:
        bands = np.concatenate(list(upscaler.bands(replace(case.low_res, alpha=None))))
        return torch.from_numpy(bands).movedim(-1, 0)[None] * 2 - 1

    started = time.perf_counter()
    answer, macs = count_macs(run) if counted else (run(), 0)
    seconds = time.perf_counter() - started
    count = upscaler.counted
    return NaturalScore(
        case.name,
        upscaler.card.name,
        scorer(answer.expand(-1, 3, -1, -1), case.high_res),
        active_leaves=count.active / count.leaves,
        windows=count.windows,
        windows_in_all=count.windows_in_all,
        macs=macs,
        seconds=seconds,
    )
