"""Segmentation consistency: simple HU-threshold masks of lung and bone against those of the truth."""

from __future__ import annotations

from qdm_med.evaluation.measures.tissues import bone_mask, lung_mask
from qdm_med.volume import BoolArray, FloatArray

SMALLEST_MASK = 100
"""Pixels of the true mask below which its Dice coefficient says nothing."""


def dice(mask: BoolArray, reference: BoolArray) -> float:
    """Dice coefficient of two masks, 0 to 1; NaN where the true mask has fewer than 100 pixels."""
    if reference.sum() < SMALLEST_MASK:
        return float("nan")
    return float(2 * (mask & reference).sum() / (mask.sum() + reference.sum()))


def lung_dice(hu: FloatArray, reference_hu: FloatArray, body: BoolArray) -> float:
    """Dice of the lung masks (below -500 HU) within the true slice's body."""
    return dice(lung_mask(hu, body), lung_mask(reference_hu, body))


def bone_dice(hu: FloatArray, reference_hu: FloatArray, body: BoolArray) -> float:
    """Dice of the bone masks (250 HU and above) within the true slice's body."""
    return dice(bone_mask(hu, body), bone_mask(reference_hu, body))
