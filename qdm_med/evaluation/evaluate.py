"""Score methods slice by slice, then summarise by patient.

Slices of one patient are no independent witnesses: means are taken within patients first, and confidence intervals
come from drawing patients, not slices.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from qdm_med.data.pairs import SlicePair
from qdm_med.errors import DataError
from qdm_med.evaluation.metrics import score_slice
from qdm_med.evaluation.perceptual import LpipsSqueeze
from qdm_med.intensity import IntensityMap

Method = Callable[[Tensor, int], Tensor]
"""``(low_res (1, 1, H, W) in [-1, 1], scale) -> (1, 1, H * scale, W * scale)``."""

CONFIDENCE = 0.95


@dataclass(frozen=True)
class SliceScore:
    """One method on one slice.

    Attributes:
        method: Name of the method.
        scale: High-resolution pixels a low-resolution pixel.
        patient: Anonymous key of the patient.
        sha256: Checksum of the true slice.
        seconds: Wall time of the method; differs from run to run.
        scores: Column name -> value.
    """

    method: str
    scale: int
    patient: str
    sha256: str
    seconds: float
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """One metric of one method, over patients.

    Attributes:
        method: Name of the method.
        scale: High-resolution pixels a low-resolution pixel.
        metric: Column name.
        mean: Mean over patients of the patients' means.
        interval: Bootstrap 95 % confidence interval of the mean over patients; ``None`` for fewer than two.
        patients: Patients that had a value.
        slices: Slices that had a value.
    """

    method: str
    scale: int
    metric: str
    mean: float
    interval: tuple[float, float] | None
    patients: int
    slices: int


def evaluate(
    methods: Mapping[str, Method],
    pairs: Iterable[SlicePair],
    *,
    intensity: IntensityMap,
    perceptual: LpipsSqueeze | None = None,
) -> Iterator[SliceScore]:
    """Run every method on every pair and score it, one row at a time.

    Args:
        methods: Name -> method.
        pairs: Slices with their degraded versions; read once.
        intensity: The mapping the pairs were made with.
        perceptual: LPIPS, if its column is wanted.

    Raises:
        DataError: If a method returns an image of another size or one that is not finite.
    """
    for pair in pairs:
        for name, method in methods.items():
            start = time.perf_counter()
            with torch.no_grad():
                prediction = method(pair.low_res, pair.scale)
            seconds = time.perf_counter() - start
            _check_prediction(name, prediction, pair)
            scores = score_slice(prediction, pair.high_res, intensity=intensity, perceptual=perceptual)
            yield SliceScore(name, pair.scale, pair.record.patient, pair.record.sha256, seconds, scores)


def _check_prediction(name: str, prediction: Tensor, pair: SlicePair) -> None:
    if prediction.shape != pair.high_res.shape:
        got, wanted = tuple(prediction.shape), tuple(pair.high_res.shape)
        raise DataError(f"method {name} made an image of {got} for slice {pair.index}, not {wanted}")
    if not torch.isfinite(prediction).all():
        raise DataError(f"method {name} made an image with values that are not numbers for slice {pair.index}")


def differences(rows: Sequence[SliceScore], baseline: str) -> list[SliceScore]:
    """Every other method's scores minus the baseline's on the same slice and scale.

    Raises:
        DataError: If the baseline lacks a slice that another method has.
    """
    base = {(row.scale, row.sha256): row.scores for row in rows if row.method == baseline}
    result = []
    for row in rows:
        if row.method == baseline:
            continue
        if (row.scale, row.sha256) not in base:
            raise DataError(f"{baseline} was not run on a slice that {row.method} was run on; evaluate them together")
        reference = base[row.scale, row.sha256]
        result.append(replace(row, scores={key: value - reference[key] for key, value in row.scores.items()}))
    return result


def summarise(rows: Iterable[SliceScore], *, resamples: int = 2000, seed: int = 0) -> list[Summary]:
    """Means over patients with bootstrap confidence intervals (percentile method).

    All methods and metrics see the same draws of patients. Values that are not finite are left out of the means
    and of the counts.
    """
    values: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    for row in rows:
        for metric, value in row.scores.items():
            patients = values.setdefault((row.method, row.scale, metric), {})
            if math.isfinite(value):
                patients.setdefault(row.patient, []).append(value)
    return [_summarise_one(key, patients, resamples, seed) for key, patients in values.items()]


def _summarise_one(
    key: tuple[str, int, str], patients: Mapping[str, Sequence[float]], resamples: int, seed: int
) -> Summary:
    method, scale, metric = key
    means = np.array([np.mean(patients[patient]) for patient in sorted(patients)])
    return Summary(
        method,
        scale,
        metric,
        mean=float(means.mean()) if len(means) else math.nan,
        interval=_bootstrap_interval(means, resamples, seed),
        patients=len(means),
        slices=sum(map(len, patients.values())),
    )


def _bootstrap_interval(means: np.ndarray, resamples: int, seed: int) -> tuple[float, float] | None:
    if len(means) < 2:
        return None
    drawn = np.random.default_rng(seed).integers(len(means), size=(resamples, len(means)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
