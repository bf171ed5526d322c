"""Interface of a method: HU of a low-resolution slice in, HU of a high-resolution slice out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from qdm_med.volume import BoolArray, FloatArray


@dataclass(frozen=True)
class Restored:
    """A super-resolved slice.

    Attributes:
        hu: ``(scale rows, scale columns)`` HU.
        leaves: ``(rows, columns)`` bool, where detail was generated, if the method knows such places.
        cost: Cost of the slice and what it depends on, by name: ``threshold``, ``steps``, ``leaf_density`` (0 to 1),
            ``windows``, ``windows_in_all``, ``macs``, and of them ``macs_diffusion``, without the autoencoder.
        std_hu: ``(scale rows, scale columns)`` standard deviation of the samples that ``hu`` is the mean of, if several.
        samples: Number of samples behind it.
        calibrated_std_hu: ``std_hu`` as the model calibrates it, if it does.
        seconds: Wall time, if the call took longer than the method does, because it was counted too.
    """

    hu: FloatArray
    leaves: BoolArray | None = None
    cost: dict[str, float] = field(default_factory=dict)
    std_hu: FloatArray | None = None
    samples: int = 1
    calibrated_std_hu: FloatArray | None = None
    seconds: float | None = None


class Method(Protocol):
    """A method under test."""

    @property
    def name(self) -> str:
        """Name in tables, unique within a run."""
        ...

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice.

        Args:
            low_hu: ``(rows, columns)`` float32 HU.
            scale: Magnification.
        """
        ...
