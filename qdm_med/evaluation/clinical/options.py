"""Options of a run of the clinical benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from qdm_med.errors import ConfigError
from qdm_med.inference.names import ModeName

SCALES = (4, 8)
"""Magnifications that there are."""


@dataclass(frozen=True)
class ClinicalOptions:
    """Options of a run.

    Attributes:
        scales: Magnifications.
        modes: Modes of ``upscale``; each is a method. Empty: the default of models for such slices.
        seed: Of phantoms, noise and sampler.
        split: Split of the store.
        per_patient: Slices of each patient of the store.
        phantom: A scan of a user's phantom.
        regions: File with the places on it.
    """

    scales: tuple[int, ...] = SCALES
    modes: tuple[ModeName, ...] = ()
    seed: int = 0
    split: str = "val"
    per_patient: int = 1
    phantom: Path | None = None
    regions: Path | None = None

    def __post_init__(self) -> None:
        """Reject options that cannot be run."""
        known = get_args(ModeName)
        if unknown := [mode for mode in self.modes if mode not in known]:
            raise ConfigError(f"mode {unknown[0]!r} is unknown; known: {', '.join(known)}")
        if unknown_scales := [scale for scale in self.scales if scale not in SCALES]:
            raise ConfigError(f"scale {unknown_scales[0]} is unknown; known: {', '.join(map(str, SCALES))}")
        if not self.scales:
            raise ConfigError("the clinical benchmark needs at least one scale")
        if self.per_patient < 1:
            raise ConfigError(f"slices a patient must be at least 1, got {self.per_patient}")
        if (self.phantom is None) != (self.regions is None):
            raise ConfigError("a phantom and its regions belong together; give both --phantom and --regions")


def clinical_options(*, modes: tuple[str, ...], **others: Any) -> ClinicalOptions:
    """Build options from names as a user writes them; without a mode, ``upscale``'s default is judged.

    Raises:
        ConfigError: If something is unknown.
    """
    known = cast("tuple[ModeName, ...]", modes)  # ClinicalOptions looks at them
    return ClinicalOptions(modes=known, **others)
