"""Agreement with the source: what a super-resolved slice says on the average is what the scanner measured."""

from __future__ import annotations

import numpy as np
import torch
from einops import reduce
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from qdm_med.models.conditioning import upsample
from qdm_med.volume import FloatArray

NEIGHBOURHOOD = 2.0
"""Standard deviation, in source pixels, of the neighbourhood whose mean HU is kept."""

REACH = 5
"""Side, in source pixels, of the neighbourhood whose HU bound what a pixel inside it may become."""

OVERSHOOT_HU = 250.0
"""How far a slice may leave the HU range of its source as a whole."""


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


def limit_overshoot(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Keep every pixel within what its neighbourhood in the source makes plausible.

    Sharpening overshoots: where a network unit is worth thousands of HU (bone), a small overshoot would become metal.
    A pixel may leave the range of its neighbourhood by that range's own width, and the slice's range by 250 HU.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    lowest, highest = minimum_filter(source, REACH, mode="nearest"), maximum_filter(source, REACH, mode="nearest")
    width = highest - lowest
    lowest = np.maximum(lowest - width, source.min() - OVERSHOOT_HU)
    highest = np.minimum(highest + width, source.max() + OVERSHOOT_HU)
    bounds = (np.repeat(np.repeat(bound, scale, axis=0), scale, axis=1) for bound in (lowest, highest))
    limited: FloatArray = np.clip(fine, *bounds)
    return limited


def agree_with_source(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Bound a super-resolved slice by its source and keep the source's local mean; arguments as for the two parts.

    The bounds come first, so that the mean counts what they cut off, and again last, so that they hold.
    """
    return limit_overshoot(keep_local_mean(limit_overshoot(fine, source, scale), source, scale), source, scale)
