"""Statistics over patients: means, bootstrap confidence intervals, paired differences, limits of agreement.

Slices of one patient are no independent witnesses: means are taken within patients first, and confidence intervals
come from drawing patients, not slices.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdm_med.errors import DataError
from qdm_med.evaluation.measures.agreement import Agreement, limits_of_agreement
from qdm_med.evaluation.results import SliceScore
from qdm_med.keys import recorded

CONFIDENCE = 0.95


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


def differences(rows: Sequence[SliceScore], baseline: str) -> list[SliceScore]:
    """Subtract the baseline's scores on the same slice and scale from every other method's, in columns of both.

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
        result.append(
            replace(row, scores={key: value - reference[key] for key, value in row.scores.items() if key in reference})
        )
    return result


def patient_means(rows: Iterable[SliceScore]) -> dict[tuple[str, int, str], dict[str, list[float]]]:
    """Average finite values by (method, scale, column) and patient, in the order of the rows."""
    values: dict[tuple[str, int, str], dict[str, list[float]]] = {}
    for row in rows:
        for metric, value in row.scores.items():
            patients = values.setdefault((row.method, row.scale, metric), {})
            if math.isfinite(value):
                patients.setdefault(row.patient, []).append(value)
    return values


def summarise(rows: Iterable[SliceScore], *, resamples: int = 2000, seed: int = 0) -> list[Summary]:
    """Average over patients, with bootstrap confidence intervals (percentile method).

    All methods and metrics see the same draws of patients. Values that are not finite are left out of the means
    and of the counts.
    """
    return [_summarise_one(key, patients, resamples, seed) for key, patients in patient_means(rows).items()]


def agreements(rows: Iterable[SliceScore]) -> dict[tuple[str, str], Agreement]:
    """Bland-Altman bias and limits of agreement of every ``bias_..._hu`` column, one difference a patient.

    Returns:
        (method, tissue) -> agreement in HU.
    """
    found = {}
    for (method, _, metric), patients in patient_means(rows).items():
        if metric.startswith("bias_"):
            means = [float(np.mean(patients[patient])) for patient in sorted(patients)]
            found[method, metric.removeprefix("bias_").removesuffix("_hu")] = limits_of_agreement(means)
    return found


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
    drawn = recorded(seed).integers(len(means), size=(resamples, len(means)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(means[drawn].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)
