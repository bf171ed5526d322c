"""When a slice is not faithful enough: one limit a measure, each with its reason."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """The range of a column within which there is no alarm.

    Attributes:
        column: Column of the scores.
        low: Smallest good value.
        high: Largest good value.
        meaning: What is wrong beyond it.
    """

    column: str
    low: float
    high: float
    meaning: str

    def broken_by(self, value: float) -> bool:
        """Whether a value raises the alarm; what could not be measured does not."""
        return math.isfinite(value) and not self.low <= value <= self.high


def _tissue_bias(tissue: str) -> Limit:
    return Limit(f"bias_{tissue}_hu", -4.0, 4.0, f"HU of {tissue.replace('_', ' ')} are shifted")


LIMITS = (
    # CT numbers of water may be off by 4 HU in acceptance tests of scanners (IEC 61223-3-5).
    _tissue_bias("lung"),
    _tissue_bias("fat"),
    _tissue_bias("soft_tissue"),
    _tissue_bias("bone"),
    # Twice the contract's tolerance for the mean of what the source measured.
    Limit("consistency_excess_hu", -4.0, 4.0, "the mean of what the source would have measured drifts"),
    # Half of half a pixel: the error of mixing up pixel centres and edges at any scale is larger.
    Limit("shift_px", 0.0, 0.25, "the slice is displaced"),
    Limit("mtf50_ratio", 0.8, 1.25, "edges are blunter or sharper than the truth's"),
    Limit("noise_ratio", 0.8, 1.15, "soft tissue is smoother or noisier than the truth's"),
    Limit("lung_dice", 0.97, 1.0, "lung and airways have another shape"),
    Limit("bone_dice", 0.9, 1.0, "bone has another shape"),
    # One is enough: interpolation of the input, which invents nothing, has none by definition.
    Limit("unsupported_patches", 0.0, 0.0, "patches show something else than truth and input"),
)


def alarms(scores: Mapping[str, float]) -> list[Limit]:
    """Limits that a slice's scores break."""
    return [limit for limit in LIMITS if limit.column in scores and limit.broken_by(scores[limit.column])]
