"""The clinical benchmark as one call: slices, methods, figures, bars, files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qdm_med._version import __version__
from qdm_med.checkpoints.model import Checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.clinical.case import ClinicalCase, Finding
from qdm_med.evaluation.clinical.generators import PHANTOMS, synthetic_cases
from qdm_med.evaluation.clinical.judge import figures_of, judge
from qdm_med.evaluation.clinical.measures import MEASURES, Measure
from qdm_med.evaluation.clinical.options import ClinicalOptions
from qdm_med.evaluation.clinical.page import save_json, write_page
from qdm_med.evaluation.clinical.patients import WAYS, patient_cases
from qdm_med.evaluation.clinical.phantom_scan import PhantomScan, read_phantom
from qdm_med.evaluation.clinical.result import ClinicalResult, ScaleResult
from qdm_med.evaluation.methods.back_projection import BackProjection
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.methods.qdm import qdm
from qdm_med.evaluation.selection import benchmark_store, select_slices, store_sha256
from qdm_med.inference.options import DEFAULT_MODE, UpscaleOptions

Progress = Callable[[int, int], None]
"""``(slices done, slices in all)``."""


@dataclass(frozen=True)
class Slices:
    """Sources of a run's slices, beside the phantoms that it draws.

    Attributes:
        phantom: A user's scan.
        store: Slices of patients.
        indices: Numbers of the chosen slices.
        note: Description of the slices, in words.
    """

    phantom: PhantomScan | None
    store: SliceStore | None = None
    indices: tuple[int, ...] = ()
    note: str = "no slices of patients"

    def __len__(self) -> int:
        """Count the slices at one magnification."""
        return PHANTOMS + (self.phantom is not None) + len(WAYS) * len(self.indices)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Every measure that applies to these slices."""
        return MEASURES if self.phantom is None else (*MEASURES, *self.phantom.measures)

    def at(self, scale: int, seed: int) -> Iterator[ClinicalCase]:
        """Make the slices of a magnification one by one."""
        yield from synthetic_cases(scale, seed)
        if self.phantom is not None:
            yield self.phantom.case(scale)
        if self.store is not None:
            yield from patient_cases(self.store, self.indices, scale, seed)

    def shown(
        self, methods: Mapping[int, Mapping[str, Method]], seed: int
    ) -> Iterator[tuple[ClinicalCase, Mapping[str, Method]]]:
        """Slices for the page: of each magnification the ladder, the noisiest phantom of details, and one of a patient."""
        for scale, own in methods.items():
            phantoms = list(synthetic_cases(scale, seed))
            yield phantoms[0], own
            yield phantoms[-1], own
            if self.store is not None:
                yield list(patient_cases(self.store, self.indices[:1], scale, seed))[-1], own


def evaluate_clinically(
    checkpoint: Checkpoint,
    options: ClinicalOptions,
    *,
    device: torch.device,
    data: Path | None = None,
    out: Path | None = None,
    report: Path | None = None,
    progress: Progress = lambda done, total: None,
) -> ClinicalResult:
    """Judge a checkpoint run as ``upscale`` runs it, and write the files that were asked for.

    Args:
        checkpoint: Model.
        options: Options of the run.
        device: Device of the model.
        data: Slice store or tree of CT files; ``None``: the generators alone.
        out: Folder for the figures as JSON.
        report: HTML file to write.
        progress: Told of every slice.

    Raises:
        QdmMedError: For whatever cannot be run, in one line.
    """
    if report is not None and report.is_dir():
        raise ConfigError(f"{report} is a folder; give the name of an HTML file for --report")
    methods = {scale: methods_at(checkpoint, options, scale, device) for scale in options.scales}
    with slices_of(checkpoint, options, data) as slices:
        results = tuple(
            judge_scale(scale, slices, methods[scale], options.seed, _part(progress, number, len(options.scales)))
            for number, scale in enumerate(options.scales)
        )
        headline = f"clinical, {checkpoint.card.name}, seed {options.seed}: {PHANTOMS} phantoms a scale; {slices.note}"
        result = ClinicalResult(headline, results, _receipt(checkpoint, options, slices))
        if out is not None:
            save_json(out, result)
        if report is not None:
            write_page(report, result, slices.shown(methods, options.seed))
    return result


@contextmanager
def slices_of(checkpoint: Checkpoint, options: ClinicalOptions, data: Path | None) -> Iterator[Slices]:
    """Open the sources of a run's slices.

    Raises:
        QdmMedError: If the data or the phantom cannot be read.
    """
    phantom = None
    if options.phantom is not None and options.regions is not None:
        phantom = read_phantom(options.phantom, options.regions)
    if data is None:
        yield Slices(phantom)
        return
    with benchmark_store(data, options.split) as store:
        yield Slices(phantom, store, *choose(store, options, checkpoint))


def methods_at(checkpoint: Checkpoint, options: ClinicalOptions, scale: int, device: torch.device) -> dict[str, Method]:
    """The checkpoint in every mode asked for, named after the mode.

    Raises:
        CheckpointError: If it was not trained for the scale.
    """
    modes = options.modes or (DEFAULT_MODE[checkpoint.card.purpose],)
    ways = {mode: UpscaleOptions(scale=scale, seed=options.seed, mode=mode) for mode in modes}
    return {mode: qdm(checkpoint, how, device) for mode, how in ways.items()}


def choose(store: SliceStore, options: ClinicalOptions, checkpoint: Checkpoint) -> tuple[tuple[int, ...], str]:
    """Choose slices from the middle of every patient the model was not trained on, and tell what is known of its training."""
    selection = select_slices(store, options.split, 1, checkpoint.card)
    allowed = set(selection.indices)
    spread = store.spread_over_patients(options.split, options.per_patient).values()
    chosen = tuple(index for indices in spread for index in indices if index in allowed)
    return chosen, f"{len(chosen)} slices of split {options.split} ({selection.note})"


def judge_scale(scale: int, slices: Slices, methods: dict[str, Method], seed: int, progress: Progress) -> ScaleResult:
    """Run all methods on all slices of a magnification."""
    opponents = {one.name: one for one in (BackProjection(0), BackProjection())}
    found: dict[str, list[Finding]] = {name: [] for name in (*opponents, *methods)}
    for done, case in enumerate(slices.at(scale, seed), start=1):
        for name, method in (opponents | methods).items():
            found[name] += findings(method, case)
        progress(done, len(slices))
    figures = {name: figures_of(own, slices.measures) for name, own in found.items()}
    against = {name: figures[name] for name in opponents}
    judged = {name: judge(figures[name], against, slices.measures) for name in methods}
    return ScaleResult(scale, len(slices), against, judged)


def findings(method: Method, case: ClinicalCase) -> list[Finding]:
    """Run a method on a slice and read the figures off its answer.

    Raises:
        DataError: If it returns an image of another size or one that is not finite.
    """
    with torch.no_grad():
        hu = method.restore(case.low_hu, case.scale).hu
    wanted = tuple(side * case.scale for side in case.low_hu.shape)
    if hu.shape != wanted or not np.isfinite(hu).all():
        raise DataError(f"method {method.name} made no image of {wanted} finite HU for {case.title}")
    return list(case.findings(hu))


def _part(progress: Progress, number: int, parts: int) -> Progress:
    """Report the progress of one of several equal parts."""
    return lambda done, total: progress(number * total + done, parts * total)


def _receipt(checkpoint: Checkpoint, options: ClinicalOptions, slices: Slices) -> dict[str, Any]:
    return {
        "qdm_med": __version__,
        "torch": torch.__version__,
        "model": checkpoint.card.name,
        "model_sha256": checkpoint.sha256,
        **{key: _named(value) for key, value in asdict(options).items()},
        "store_sha256": None if slices.store is None else store_sha256(slices.store),
    }


def _named(value: Any) -> Any:
    """Reduce paths to their names: folders name people."""
    return value.name if isinstance(value, Path) else value
