"""Bicubic interpolation in HU, bare and back-projected: opponents without training or a network's range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import HU_MAX, HU_MIN
from qdm_med.resample import block_mean, upsample
from qdm_med.volume import FloatArray

ROUNDS = 10
"""Corrections after which the block means are the source's to within a few HU."""


@dataclass(frozen=True)
class BackProjection:
    """Bicubic interpolation whose block means are corrected to the source's (Irani and Peleg, CVGIP 1991).

    Attributes:
        rounds: Corrections; 0 is bicubic interpolation itself.
    """

    rounds: int = ROUNDS

    @property
    def name(self) -> str:
        """``"bicubic"`` or ``"back-projected"``."""
        return "back-projected" if self.rounds else "bicubic"

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Enlarge one slice."""
        fine = _enlarged(low_hu, scale)
        for _ in range(self.rounds):
            fine = fine + _enlarged(low_hu - block_mean(fine, scale), scale)
        return Restored(np.clip(fine, HU_MIN, HU_MAX))


def _enlarged(hu: FloatArray, scale: int) -> FloatArray:
    return upsample(torch.from_numpy(np.asarray(hu, dtype=np.float32))[None, None], scale)[0, 0].numpy()
