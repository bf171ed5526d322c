"""Interpolation as a method, in the model's range as every other method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import IntensityMap
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Interpolation:
    """Enlargement by a fixed kernel.

    Attributes:
        name: Name in tables.
        enlarge: ``(B, C, H, W)`` in [-1, 1] and a scale -> the enlarged images.
        intensity: HU to [-1, 1].
    """

    name: str
    enlarge: Callable[[Tensor, int], Tensor]
    intensity: IntensityMap

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Enlarge one slice."""
        image = torch.from_numpy(self.intensity.to_unit(low_hu))[None, None]
        return Restored(self.intensity.to_hu(self.enlarge(image, scale)[0, 0].numpy()))
