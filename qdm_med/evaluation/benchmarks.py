"""Med-SR4 and Med-SR8 (arXiv 2503.12015, section 5.1): whole slices, degraded with a fixed seed, scored method by method."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import get_args

import torch

from qdm_med.checkpoints.model import Checkpoint
from qdm_med.data.degradation.degrade import DEGRADATIONS
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError
from qdm_med.evaluation.cases import Case, make_case
from qdm_med.evaluation.evaluate import evaluate
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.measures.protocols import PAPER_WINDOW
from qdm_med.evaluation.methods.consistent import Consistent
from qdm_med.evaluation.methods.image_model import load_image_model
from qdm_med.evaluation.methods.interpolation import Interpolation
from qdm_med.evaluation.methods.latent_model import load_latent_model
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.methods.qdm import dense, downstream_only, qdm, sampled
from qdm_med.evaluation.methods.recorded import recorded
from qdm_med.evaluation.results import ResultsFolder, SliceScore
from qdm_med.evaluation.selection import Selection
from qdm_med.inference.names import ConsistencyName, ModeName
from qdm_med.inference.options import UpscaleOptions
from qdm_med.intensity import IntensityMap
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.resample import bicubic, lanczos

BENCHMARK_SCALES: Mapping[str, int] = MappingProxyType({"med-sr4": 4, "med-sr8": 8})
"""Benchmark name -> magnification."""

METHODS = ("bicubic", "lanczos", "qdm", "faithful", "detailed", "dense", "downstream-only")

_MODE_OF: Mapping[str, ModeName] = MappingProxyType({"faithful": "faithful", "detailed": "detailed"})
"""Methods that are the checkpoint in another mode than ``balanced``."""


@dataclass(frozen=True)
class BenchmarkOptions:
    """Options of a benchmark: its name, slices and methods.

    Attributes:
        benchmark: ``"med-sr4"`` or ``"med-sr8"``.
        split: Split of the store.
        steps: Numbers of sampling steps; empty: the checkpoint's default. The modes ``faithful`` and ``detailed`` keep theirs.
        thresholds: Quadtree thresholds; empty: the checkpoint's default.
        quadtree: Kind of quadtree; ``None``: the checkpoint's default.
        consistency: Agreement of the checkpoint's, latent and image models' slices with their input in HU; each
            model is run at each. Empty: the checkpoint and latent models as ``upscale`` runs them, and image models as
            they answer, ``"off"``.
        every: Take every n-th slice of the split.
        seed: Seed of the degradation and of the sampler.
        methods: Names from :data:`METHODS`.
        latent_models: Checkpoints of further models on the same autoencoder; run at each number of ``steps``.
        image_models: Weights of further networks, for ``spandrel``, published or trained here.
        results: Names of other programs and the folders with what they made of the benchmark's inputs.
        degrade_in: ``"network"``: slices are degraded in the model's range; ``"window"``: in the paper's window, outside
            of which there is then neither truth nor input.
        degradation: Name from :data:`~qdm_med.data.degradation.degrade.DEGRADATIONS`; only ``"paper"`` gives Med-SR4 and Med-SR8.
        fidelity: Whether fidelity is measured.
        samples: If not 0, the mean of so many samples is a method, with an uncertainty map.
        count_macs: Whether multiply-accumulates are counted.
    """

    benchmark: str
    split: str = "val"
    steps: tuple[int, ...] = ()
    thresholds: tuple[float, ...] = ()
    quadtree: QuadtreeKind | None = None
    consistency: tuple[ConsistencyName, ...] = ()
    every: int = 1
    seed: int = 0
    methods: tuple[str, ...] = ("bicubic", "lanczos", "qdm", "dense")
    latent_models: tuple[Path, ...] = ()
    image_models: tuple[Path, ...] = ()
    results: tuple[tuple[str, Path], ...] = ()
    degrade_in: str = "network"
    degradation: str = "paper"
    fidelity: bool = True
    samples: int = 0
    count_macs: bool = False

    def __post_init__(self) -> None:
        """Reject options that cannot be run."""
        if self.benchmark not in BENCHMARK_SCALES:
            raise ConfigError(f"benchmark {self.benchmark!r} is unknown; known: {', '.join(BENCHMARK_SCALES)}")
        if self.every < 1:
            raise ConfigError(f"every must be at least 1, got {self.every}")
        if self.degrade_in not in ("network", "window"):
            raise ConfigError(f"degrade_in must be network or window, got {self.degrade_in!r}")
        if self.degradation not in DEGRADATIONS:
            raise ConfigError(f"degradation {self.degradation!r} is unknown; known: {', '.join(DEGRADATIONS)}")
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ConfigError(f"method {unknown[0]!r} is unknown; known: {', '.join(METHODS)}")
        known = get_args(ConsistencyName)
        if unknown := [name for name in self.consistency if name not in known]:
            raise ConfigError(f"consistency {unknown[0]!r} is unknown; known: {', '.join(known)}")
        if not any((self.methods, self.latent_models, self.image_models, self.results)):
            raise ConfigError(f"no method was named; known: {', '.join(METHODS)}")

    @property
    def scale(self) -> int:
        """Magnification of the benchmark."""
        return BENCHMARK_SCALES[self.benchmark]

    def degraded_in(self, intensity: IntensityMap) -> IntensityMap:
        """Range in which slices are degraded, for a model with this mapping."""
        return intensity if self.degrade_in == "network" else PAPER_WINDOW


def benchmark_methods(checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> list[Method]:
    """Methods of a run, each name once, except the recorded results of other programs.

    Raises:
        CheckpointError: If a checkpoint or network was not trained for the benchmark's scale, or has another autoencoder.
        ConfigError: If steps or thresholds are out of range, or spandrel is wanted and missing.
    """
    intensity = checkpoint.card.intensity
    methods: list[Method] = []
    for name in options.methods:
        if name == "bicubic":
            methods.append(Interpolation("bicubic", bicubic, intensity))
        elif name == "lanczos":
            methods.append(Interpolation("lanczos", lanczos, intensity))
        else:
            methods += _qdm_variants(name, checkpoint, options, device)
    methods += [*_ensembles(checkpoint, options, device), *_latent_models(checkpoint, options, device)]
    methods += _image_models(checkpoint, options, device)
    return list({method.name: method for method in reversed(methods)}.values())[::-1]


def _ensembles(checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> list[Method]:
    """Means of several samples, if they are asked for."""
    base = UpscaleOptions(scale=options.scale, seed=options.seed, quadtree=options.quadtree)
    return [
        sampled(checkpoint, replace(base, consistency=consistency), device, options.samples)
        for consistency in options.consistency or (base.consistency,)
        if options.samples
    ]


def _latent_models(checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> list[Method]:
    """Other models on the checkpoint's autoencoder, at every number of steps."""
    base = UpscaleOptions(scale=options.scale, seed=options.seed)
    ways = [
        replace(base, steps=number, consistency=consistency)
        for number in options.steps or (None,)
        for consistency in options.consistency or (base.consistency,)
    ]
    models = [load_latent_model(path, checkpoint) for path in options.latent_models]
    return [qdm(model, how, device, counted=options.count_macs) for model in models for how in ways]


def recorded_methods(cases: Sequence[Case], options: BenchmarkOptions) -> list[Method]:
    """Recorded results of other programs, as they are and made as consistent as is asked.

    Args:
        cases: All cases of the run.
        options: Options of the run.

    Raises:
        DataError: If a file is missing, damaged or of another size.
    """
    programs = [recorded(name, folder, cases) for name, folder in options.results]
    return [_agreeing(one, consistency) for one in programs for consistency in options.consistency or ("off",)]


def _agreeing(method: Method, consistency: ConsistencyName) -> Method:
    return method if consistency == "off" else Consistent(method, consistency)


def _image_models(checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> list[Method]:
    """Networks for images, as they answer and made as consistent as is asked."""
    models = [
        load_image_model(path, options.scale, checkpoint.card.intensity, device, counted=options.count_macs)
        for path in options.image_models
    ]
    return [_agreeing(model, consistency) for model in models for consistency in options.consistency or ("off",)]


def _qdm_variants(name: str, checkpoint: Checkpoint, options: BenchmarkOptions, device: torch.device) -> list[Method]:
    """The checkpoint or a variant of it, at every combination of steps and thresholds; a mode brings its own."""
    thresholds: Sequence[float | None] = options.thresholds or (None,)
    steps: Sequence[int | None] = options.steps or (None,)
    found: list[Method] = []
    base = UpscaleOptions(
        scale=options.scale, seed=options.seed, mode=_MODE_OF.get(name, "balanced"), quadtree=options.quadtree
    )
    agreeing = options.consistency or (base.consistency,)
    swept = thresholds if name == "qdm" else (None,)
    for threshold, number, consistency in itertools.product(swept, (None,) if name in _MODE_OF else steps, agreeing):
        how = replace(base, threshold=threshold, steps=number, consistency=consistency)
        found.append(_qdm_variant(name, checkpoint, how, device, counted=options.count_macs))
    return found


def _qdm_variant(
    name: str, checkpoint: Checkpoint, how: UpscaleOptions, device: torch.device, *, counted: bool
) -> Method:
    if name == "dense":
        return dense(checkpoint, how, device, counted=counted)
    if name == "downstream-only":
        return downstream_only(checkpoint, how, device)
    return qdm(checkpoint, how, device, counted=counted)


def benchmark_cases(
    store: SliceStore, indices: Iterable[int], options: BenchmarkOptions, intensity: IntensityMap
) -> Iterator[Case]:
    """Degraded slices of a store, for a model with this mapping."""
    degraded_in = options.degraded_in(intensity)
    degradation = DEGRADATIONS[options.degradation]
    return (make_case(store, index, options.scale, options.seed, degraded_in, degradation) for index in indices)


Elsewhere = Callable[[SliceStore, Checkpoint, BenchmarkOptions, Sequence[int]], Iterator[list[SliceScore]]]
"""Scores slices of a store in other processes: yields all rows of a slice, in the order of the indices."""


@dataclass(frozen=True)
class Scoring:
    """Processes that score slices, and their further measures.

    Attributes:
        perceptual: LPIPS, if its columns are wanted.
        elsewhere: Other processes that score, LPIPS included; ``None``: this one does. The rows are the same.
    """

    perceptual: Lpips | None = None
    elsewhere: Elsewhere | None = None


HERE = Scoring()
"""In this process, without LPIPS."""


def run_benchmark(
    store: SliceStore,
    selection: Selection,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    methods: Sequence[Method],
    *,
    scoring: Scoring = HERE,
    folder: ResultsFolder | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[SliceScore]:
    """Score the methods on every selected slice that is not done yet.

    Args:
        store: Slices.
        selection: The chosen slices.
        checkpoint: The model.
        options: Options of the run.
        methods: From :func:`benchmark_methods`.
        scoring: Processes that score slices, and their further measures.
        folder: Keeps the rows as they are made, and those of an earlier run.
        progress: Told of every slice.

    Returns:
        One row for each method and slice.
    """
    rows = list(folder.done) if folder else []
    total = len(selection.indices)
    finished = {row.sha256 for row in rows}
    wanted = [index for index in selection.indices if store.records[index].sha256 not in finished]
    progress(len(rows) // len(methods), total)
    for scored in _scored(store, checkpoint, options, methods, wanted, scoring):
        rows += scored
        if folder:
            folder.append(scored)
        progress(len(rows) // len(methods), total)
    return rows


def _scored(
    store: SliceStore,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    methods: Sequence[Method],
    wanted: Sequence[int],
    scoring: Scoring,
) -> Iterator[list[SliceScore]]:
    if scoring.elsewhere:
        return scoring.elsewhere(store, checkpoint, options, wanted)
    intensity = checkpoint.card.intensity
    cases = benchmark_cases(store, wanted, options, intensity)
    return evaluate(methods, cases, intensity=intensity, perceptual=scoring.perceptual, fidelity=options.fidelity)
