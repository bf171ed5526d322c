"""HU of an image in the network's range, with a gradient."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from qdm_med.intensity import IntensityMap

KNOTS = 2**16 + 1
"""Knots of the table that stands for a mapping: with the mappings' defaults HU change by less than 0.2 from one to the next."""


class DifferentiableHu:
    """Map to HU as a mapping's ``to_hu`` does, linearly between the knots of a table: within 0.05 HU at a knee, better elsewhere.

    Args:
        intensity: The mapping.
    """

    def __init__(self, intensity: IntensityMap) -> None:
        self._table = torch.from_numpy(intensity.to_hu(np.linspace(-1.0, 1.0, KNOTS)))

    def __call__(self, unit: Tensor) -> Tensor:
        """Map an image to HU.

        Args:
            unit: Network values of any shape; beyond [-1, 1] they are moved to its ends, where they have no gradient.

        Returns:
            float32 HU of the same shape, on the same device.
        """
        if self._table.device != unit.device:
            self._table = self._table.to(unit.device)
        place = (unit.float().clamp(-1.0, 1.0) + 1.0) * ((KNOTS - 1) / 2)  # bfloat16 has no digits for it
        below = place.detach().long().clamp(max=KNOTS - 2)
        return self._table[below] + (place - below) * (self._table[below + 1] - self._table[below])
