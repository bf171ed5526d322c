"""Noise of a slice: a pure function of seed, series, slice position and draw.

A counter-based generator (Philox) keyed by the slice makes a result independent of the order in which slices are
processed, of batches, tiles and workers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class SliceNoise:
    """Standard normal noise on one slice's own latent grid.

    Attributes:
        seed: The user's seed.
        series_key: Identity of the series.
        position_mm: Place of the slice along its normal; rounded to a micrometre, so that float noise in a header's
            arithmetic does not change the draw.
        sample: Number of the sample, for the mean of several.
    """

    seed: int
    series_key: str
    position_mm: float
    sample: int = 0

    def draw(self, number: int, shape: tuple[int, ...]) -> Tensor:
        """Draw ``number`` of this slice: ``shape`` float32 on the CPU, always the same."""
        # + 0.0 turns -0.0 into 0.0: one place, one key.
        identity = f"{self.seed}|{self.series_key}|{round(self.position_mm, 3) + 0.0:.3f}|{self.sample}|{number}"
        key = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:16], "little")
        generator = np.random.Generator(np.random.Philox(key=key))
        return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32))
