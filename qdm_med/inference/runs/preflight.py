"""Check of a series before its first slice is computed: is it in HU, and like the training of the model?"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import CheckpointError, SeriesError
from qdm_med.inference.source.point_spread import fwhm_pixels
from qdm_med.inference.source.slice_noise import slice_noise_hu
from qdm_med.io.read import slice_thickness_mm
from qdm_med.volume import BoolArray, CtSlice, FloatArray, Volume

ROUNDING = 1e-3
"""Relative room at the ends of a recorded range, which is written with few digits."""

MEASURING = 0.2
"""The same for what is measured in slices: on phantoms it is right to a tenth, anatomy and directed noise cost as much again."""

MEASURED: Mapping[str, tuple[str, Callable[[FloatArray, BoolArray], float | None]]] = MappingProxyType(
    {"noise_hu": ("noise in HU", slice_noise_hu), "fwhm_pixels": ("point spread in pixels", fwhm_pixels)}
)
"""Measures of slices, by their keys in a card: name and instrument."""

LOOKED_AT = 9
"""Slices whose values are looked at, evenly spaced."""
SMALLEST_RANGE_HU = 20.0
"""A volume of tissue, air and noise spans more; one that was scaled to 0..1 or to unit variance does not."""
LARGEST_TISSUE_HU = 150.0
"""Soft tissue alone, as in a crop inside an organ, spans less."""


def unlike_hu(slices: Sequence[CtSlice]) -> str | None:
    """Say in one line why values cannot be Hounsfield units; ``None`` where they can.

    Air is -1000 HU, fat -100: a volume without any negative value holds neither, not even as noise. Stored values of a
    scanner, windows of 0 to 255 and normalised values are like that, or span less than the noise of a scan.
    """
    values = (one.hu[~one.padding] for one in slices)
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


@dataclass(frozen=True)
class Check:
    """One property of a source, beside the range that the model was trained on.

    Attributes:
        key: Of the range in the card's ``training.domain``.
        name: For people, with its unit.
        values: Measured values; empty where it could not be measured.
        trained: Smallest and largest value of the training; ``None`` where the card does not record it.
        room: Share of either end by which a value may lie beyond it.
    """

    key: str
    name: str
    values: tuple[float, ...]
    trained: tuple[float, float] | None = None
    room: float = ROUNDING

    @property
    def outside(self) -> bool:
        """Whether the value lies outside the range."""
        if self.trained is None:
            return False
        low, high = self.trained[0] * (1 - self.room), self.trained[1] * (1 + self.room)
        return any(not low <= value <= high for value in self.values)

    def shown(self) -> str:
        """The value in words, such as ``0.8x0.8``."""
        return "x".join(dict.fromkeys(f"{value:.4g}" for value in self.values))


@dataclass(frozen=True)
class Preflight:
    """Findings about a source before its first slice is computed.

    Attributes:
        model: Name of the model.
        checks: Measured values, beside the ranges of the training.
        not_hu: Why values cannot be Hounsfield units, in a line; ``None`` where they can.
    """

    model: str
    checks: tuple[Check, ...]
    not_hu: str | None = None

    @property
    def unlike(self) -> str | None:
        """One line that says where the source lies outside the training; ``None`` if nowhere."""
        outside = [
            f"{one.name} {one.shown()} (trained on {one.trained[0]:g} to {one.trained[1]:g})"
            for one in self.checks
            if one.outside and one.trained is not None
        ]
        return f"unlike what model {self.model} was trained on: {', '.join(outside)}" if outside else None

    @property
    def warnings(self) -> tuple[str, ...]:
        """Warnings to give before the run, a line each."""
        return tuple(line for line in (self.not_hu, self.unlike) if line)

    def refuse(self, name: str) -> None:
        """Turn the warnings into an error, if there are any.

        Args:
            name: Of the source, for the message.

        Raises:
            SeriesError: If there is anything.
        """
        if self.not_hu:
            raise SeriesError(f"{name}: {self.not_hu}; or do without --strict")
        if self.unlike:
            raise SeriesError(f"{name}: {self.unlike}; use a model for such series, or do without --strict")

    def parameters(self) -> tuple[tuple[str, str], ...]:
        """Noise and point spread, as an output records them."""
        return tuple((f"source {one.name}", one.shown()) for one in self.checks if one.key in MEASURED and one.values)


def look_at(volume: Volume, card: ModelCard) -> Preflight:
    """Measure a volume and compare it with the training of a model.

    The ranges stand under ``domain`` in the card's training record, each as its smallest and largest value:
    ``pixel_spacing_mm``, ``slice_thickness_mm``, ``matrix`` (rows and columns), ``noise_hu`` and ``fwhm_pixels``. What a card does
    not record is not checked. Noise and point spread are medians over slices.

    Raises:
        CheckpointError: If the ranges are there but are none.
    """
    domain = card.training.get("domain") or {}
    if not isinstance(domain, Mapping):
        raise CheckpointError(f"model {card.name}: training domain {domain!r} is no mapping; export the model again")
    slices = [volume.slices[index] for index in _spread(len(volume))]  # decoded once for all that looks at them
    checks = (
        replace(one, trained=_range(domain[one.key], one.key, card.name)) if one.key in domain else one
        for one in (*_grid(volume), *_quality(slices))
    )
    return Preflight(card.name, tuple(checks), unlike_hu(slices))


def _grid(volume: Volume) -> tuple[Check, ...]:
    _, rows, columns = volume.geometry.shape
    return (
        Check("pixel_spacing_mm", "pixel spacing in mm", tuple(volume.geometry.spacing[1:])),
        Check("slice_thickness_mm", "slice thickness in mm", tuple(slice_thickness_mm(volume))),
        Check("matrix", "matrix", (rows, columns)),
    )


def _quality(slices: Sequence[CtSlice]) -> tuple[Check, ...]:
    """Noise and point spread: medians over the slices that show them."""
    found = []
    for key, (name, measure) in MEASURED.items():
        values = [value for one in slices if (value := measure(one.hu, one.padding)) is not None]
        found.append(Check(key, name, (float(np.median(values)),) if values else (), room=MEASURING))
    return tuple(found)


def _spread(count: int) -> list[int]:
    """Choose slices to look at, evenly spaced."""
    return np.unique(np.linspace(0, count - 1, min(count, LOOKED_AT)).astype(int)).tolist()


def _range(recorded: Any, key: str, model: str) -> tuple[float, float]:
    try:
        low, high = min(recorded), max(recorded)
        return float(low), float(high)
    except (TypeError, ValueError):
        raise CheckpointError(
            f"model {model}: training domain {key} {recorded!r} is no range of numbers; export the model again"
        ) from None
