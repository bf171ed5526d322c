"""Is a series in Hounsfield units, and like what the model was trained on? Said before the first slice is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import CheckpointError
from qdm_med.io.read import slice_thickness_mm
from qdm_med.volume import Volume

ROUNDING = 1e-3
"""Relative room at the ends of a recorded range, which is written with few digits."""


LOOKED_AT = 9
"""Slices whose values are looked at, evenly spaced."""
SMALLEST_RANGE_HU = 20.0
"""A volume of tissue, air and noise spans more; one that was scaled to 0..1 or to unit variance does not."""
LARGEST_TISSUE_HU = 150.0
"""Soft tissue alone, as in a crop inside an organ, spans less."""


def unlike_hu(volume: Volume) -> str | None:
    """One line that says why values cannot be Hounsfield units; ``None`` where they can.

    Air is -1000 HU, fat -100: a volume without any negative value holds neither, not even as noise. Stored values of a
    scanner, windows of 0 to 255 and normalised values are like that, or span less than the noise of a scan.
    """
    sampled = np.unique(np.linspace(0, len(volume) - 1, min(len(volume), LOOKED_AT)).astype(int)).tolist()
    values = [one.hu[~one.padding] for one in map(volume.slices.__getitem__, sampled)]
    ends = [(float(each.min()), float(each.max())) for each in values if each.size]
    if not ends:
        return None
    lowest, highest = min(low for low, _ in ends), max(high for _, high in ends)
    told = f"values from {lowest:.6g} to {highest:.6g} do not look like HU"
    remedy = "convert them, or add the missing constant with --hu-offset"
    if 0 < highest - lowest <= SMALLEST_RANGE_HU:
        return f"{told} (tissue and air span more): these are other intensities; {remedy}"
    if lowest >= 0 and highest - lowest > LARGEST_TISSUE_HU:
        return f"{told} (no air and no fat): these are other intensities; {remedy}, such as -1024"
    return None


def unlike_training(volume: Volume, card: ModelCard) -> str | None:
    """One line that says where a volume lies outside the training data of a model; ``None`` if nowhere.

    The ranges stand under ``domain`` in the card's training record: ``pixel_spacing_mm``, ``slice_thickness_mm`` and
    ``matrix`` (rows and columns), each as its smallest and largest value. What a card does not record is not checked.

    Raises:
        CheckpointError: If the ranges are there but are none.
    """
    domain = card.training.get("domain") or {}
    if not isinstance(domain, Mapping):
        raise CheckpointError(f"model {card.name}: training domain {domain!r} is no mapping; export the model again")
    found = list(_outside(_measured(volume), domain, card.name))
    return f"unlike what model {card.name} was trained on: {', '.join(found)}" if found else None


def _measured(volume: Volume) -> dict[str, tuple[str, tuple[float, ...]]]:
    _, rows, columns = volume.geometry.shape
    return {
        "pixel_spacing_mm": ("pixel spacing in mm", volume.geometry.spacing[1:]),
        "slice_thickness_mm": ("slice thickness in mm", slice_thickness_mm(volume)),
        "matrix": ("matrix", (rows, columns)),
    }


def _outside(
    measured: Mapping[str, tuple[str, tuple[float, ...]]], domain: Mapping[str, Any], model: str
) -> Iterator[str]:
    for key, (name, values) in measured.items():
        if key not in domain:
            continue
        low, high = _range(domain[key], key, model)
        if any(not low * (1 - ROUNDING) <= value <= high * (1 + ROUNDING) for value in values):
            yield f"{name} {_shown(values)} (trained on {low:g} to {high:g})"


def _range(recorded: Any, key: str, model: str) -> tuple[float, float]:
    try:
        low, high = min(recorded), max(recorded)
        return float(low), float(high)
    except (TypeError, ValueError):
        raise CheckpointError(
            f"model {model}: training domain {key} {recorded!r} is no range of numbers; export the model again"
        ) from None


def _shown(values: tuple[float, ...]) -> str:
    return "x".join(dict.fromkeys(f"{value:.4g}" for value in values))
