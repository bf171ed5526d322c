"""Slices of a benchmark scored on a cluster, one an item; rows come in the order of the slices, as alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from qdm_med.archive.cluster import Wanted, workforce
from qdm_med.archive.engine import Tell
from qdm_med.archive.ordered import Stop, in_order
from qdm_med.checkpoints.model import Checkpoint, load_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.device import pick_device
from qdm_med.errors import ClusterError, QdmMedError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_cases, benchmark_methods, recorded_methods
from qdm_med.evaluation.evaluate import evaluate
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.selection import store_sha256

SLICE_BYTES = 3 * 2**30
"""Memory that scoring a slice of 512 x 512 may take: models of every method, and everything that is measured."""


@dataclass(frozen=True)
class ClusterScoring:
    """Scores on a cluster; see :data:`qdm_med.evaluation.benchmarks.Elsewhere`.

    Attributes:
        wanted: The cluster, whose workers see all files at the same places.
        checkpoint: File of the model.
        backbone: File of LPIPS's features, if its columns are wanted.
    """

    wanted: Wanted
    checkpoint: Path
    backbone: Path | None = None

    def __call__(
        self, store: SliceStore, checkpoint: Checkpoint, options: BenchmarkOptions, indices: Sequence[int]
    ) -> Iterator[list[SliceScore]]:
        """Yield all rows of every slice.

        Raises:
            ClusterError: If the cluster fails, or a worker sees other files.
            QdmMedError: As alone.
        """
        if not indices:
            return
        job = _Job(
            store=store.path.resolve(),
            store_sha256=store_sha256(store),
            checkpoint=self.checkpoint.resolve(),
            model_sha256=checkpoint.sha256,
            options=_absolute(options),
            backbone=self.backbone and self.backbone.resolve(),
            device=self.wanted.device,
        )
        asked = replace(self.wanted, memory_bytes=SLICE_BYTES, items=len(indices))
        with workforce(asked) as force:
            yield from in_order(force.client, _Score(job), indices, force.needs(SLICE_BYTES))


def _absolute(options: BenchmarkOptions) -> BenchmarkOptions:
    return replace(
        options,
        latent_models=tuple(path.resolve() for path in options.latent_models),
        image_models=tuple(path.resolve() for path in options.image_models),
        results=tuple((name, folder.resolve()) for name, folder in options.results),
    )


@dataclass(frozen=True)
class _Job:
    """Settings that all slices of a run share; small, as it travels with each."""

    store: Path
    store_sha256: str
    checkpoint: Path
    model_sha256: str
    options: BenchmarkOptions
    backbone: Path | None
    device: str


@dataclass(frozen=True)
class _Bench:
    """Everything that a worker keeps loaded between slices."""

    store: SliceStore
    checkpoint: Checkpoint
    methods: Sequence[Method]
    perceptual: Lpips | None

    def score(self, index: int, options: BenchmarkOptions) -> list[SliceScore]:
        intensity = self.checkpoint.card.intensity
        (case,) = benchmark_cases(self.store, [index], options, intensity)
        programs = recorded_methods([case], options)  # their files are found slice by slice
        (rows,) = evaluate(
            [*self.methods, *programs],
            [case],
            intensity=intensity,
            perceptual=self.perceptual,
            fidelity=options.fidelity,
        )
        return rows


@dataclass(frozen=True)
class _Score:
    """Scores one slice, on a worker."""

    job: _Job

    def __call__(self, index: int, tell: Tell) -> list[SliceScore] | Stop:
        try:
            return _warm(self.job).score(index, self.job.options)
        except QdmMedError as error:
            return Stop(error)


@lru_cache(maxsize=1)
def _warm(job: _Job) -> _Bench:
    """Load what a job needs.

    Raises:
        ClusterError: If store or model is missing here, or another one.
    """
    try:
        store, checkpoint = SliceStore.open(job.store), load_checkpoint(job.checkpoint)
    except QdmMedError as error:
        raise ClusterError(f"a worker cannot read what is to be scored: {error}") from None
    for path, found, wanted in (
        (job.store, store_sha256(store), job.store_sha256),
        (job.checkpoint, checkpoint.sha256, job.model_sha256),
    ):
        if found != wanted:
            raise ClusterError(f"{path}: a worker finds another one there; give all workers the same")
    methods = benchmark_methods(checkpoint, job.options, pick_device(job.device))
    return _Bench(store, checkpoint, methods, Lpips(job.backbone) if job.backbone else None)
