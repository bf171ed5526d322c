"""Score methods case by case."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch

from qdm_med.errors import DataError
from qdm_med.evaluation.cases import Case
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.methods.method import Method, Restored
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.scoring import Truth, calibration_scores, score_slice
from qdm_med.intensity import IntensityMap
from qdm_med.serialise import to_mapping


def evaluate(
    methods: Sequence[Method],
    cases: Iterable[Case],
    *,
    intensity: IntensityMap,
    perceptual: Lpips | None = None,
    fidelity: bool = True,
) -> Iterator[list[SliceScore]]:
    """Run every method on every case and score it.

    Args:
        methods: Methods with different names.
        cases: Read once.
        intensity: The model's mapping, for the network range.
        perceptual: LPIPS, if its columns are wanted.
        fidelity: Whether the fidelity columns are wanted.

    Yields:
        All rows of one case.

    Raises:
        DataError: If a method returns an image of another size or one that is not finite.
    """
    for case in cases:
        truth = Truth.of(case)
        rows = []
        for method in methods:
            restored, seconds = run_method(method, case)
            scores = score_slice(restored.hu, truth, intensity, perceptual=perceptual, fidelity=fidelity)
            if fidelity:
                scores |= calibration_scores(restored, truth)
            rows.append(
                SliceScore(
                    method=method.name,
                    scale=case.scale,
                    patient=case.record.patient,
                    sha256=case.record.sha256,
                    seconds=seconds,
                    scores=scores,
                    cost=restored.cost,
                    low_sha256=case.low_sha256,
                    degradation=to_mapping(case.params),
                )
            )
        yield rows


def run_method(method: Method, case: Case) -> tuple[Restored, float]:
    """Run one method on one case and time it, in seconds of wall time.

    Raises:
        DataError: If it returns an image of another size or one that is not finite.
    """
    start = time.perf_counter()
    with torch.no_grad():
        restored = method.restore(case.low_hu, case.scale)
    seconds = time.perf_counter() - start
    wanted = tuple(side * case.scale for side in case.low_hu.shape)
    if restored.hu.shape != wanted:
        raise DataError(
            f"method {method.name} made an image of {restored.hu.shape} for slice {case.index}, not {wanted}"
        )
    if not np.isfinite(restored.hu).all():
        raise DataError(f"method {method.name} made an image with values that are not numbers for slice {case.index}")
    return restored, seconds if restored.seconds is None else restored.seconds
