"""HU bias by tissue with limits of agreement (Bland and Altman, Lancet 1986; 327: 307-310)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdm_med.evaluation.measures.tissues import Tissue
from qdm_med.volume import FloatArray

SMALLEST_REGION = 64
"""A tissue with fewer interior pixels than this says nothing."""

LIMIT = 1.96
"""Standard deviations that 95 % of normal differences stay within."""


@dataclass(frozen=True)
class Agreement:
    """Agreement of two measurements.

    Attributes:
        bias: Mean difference.
        low: Lower 95 % limit of agreement.
        high: Upper 95 % limit of agreement.
        count: Differences behind it.
    """

    bias: float
    low: float
    high: float
    count: int


def limits_of_agreement(differences: Sequence[float] | FloatArray) -> Agreement:
    """Bias and 95 % limits of agreement; NaN where there are fewer than two differences."""
    values = np.asarray(differences, dtype=np.float64)
    if len(values) < 2:
        return Agreement(float("nan"), float("nan"), float("nan"), len(values))
    bias, spread = float(values.mean()), float(values.std(ddof=1))
    return Agreement(bias, bias - LIMIT * spread, bias + LIMIT * spread, len(values))


def tissue_means(hu: FloatArray, reference_hu: FloatArray, tissue: Tissue) -> tuple[float, float] | None:
    """Mean HU of a tissue's interior in an image and in the reference; ``None`` where too little of it is there.

    One pair of means is one point of a Bland-Altman plot.
    """
    interior = tissue.interior(reference_hu)
    if interior.sum() < SMALLEST_REGION:
        return None
    return float(hu[interior].mean(dtype=np.float64)), float(reference_hu[interior].mean(dtype=np.float64))
