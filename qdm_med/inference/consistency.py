"""Agreement with the source: what a super-resolved slice says on the average is what the scanner measured."""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from scipy.ndimage import gaussian_filter

from qdm_med.models.conditioning import upsample
from qdm_med.volume import FloatArray

NEIGHBOURHOOD = 2.0
"""Standard deviation, in source pixels, of the neighbourhood whose mean HU is kept."""


def block_mean(fine: FloatArray, scale: int) -> FloatArray:
    """Mean of each ``scale`` by ``scale`` block, ``(scale rows, scale columns)`` -> ``(rows, columns)``."""
    mean: FloatArray = reduce(fine, "(row sy) (column sx) -> row column", "mean", sy=scale, sx=scale)
    return mean


def keep_local_mean(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Add a smooth correction after which the mean HU of every neighbourhood is the source's.

    The difference between the source and the block means is smoothed before it is added back: a drift of the network in
    HU is undone, while the source's pixel noise, which the network took out, is not put back.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    drift = gaussian_filter(source - block_mean(fine, scale), NEIGHBOURHOOD, mode="nearest")
    correction = upsample(torch.from_numpy(drift)[None, None], scale)[0, 0].numpy()
    corrected: FloatArray = np.asarray(fine + correction, dtype=np.float32)
    return corrected
