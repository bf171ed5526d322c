"""Agreement with the source: the local mean of a super-resolved slice is what the scanner measured."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from qdm_med.data.noise_level import noise_hu
from qdm_med.inference.forward_model import return_to_source
from qdm_med.inference.noise_guard import faintness, limit_noise, neighbourhood_bounds
from qdm_med.intensity import HU_MAX, HU_MIN
from qdm_med.resample import block_mean, upsample
from qdm_med.volume import FloatArray

Bounds = tuple[FloatArray, FloatArray]
"""Lowest and highest HU, ``(rows, 1, scale columns)``: those of all the pixel rows that one source row becomes."""

NEIGHBOURHOOD = 2.0
"""Standard deviation, in source pixels, of the neighbourhood whose mean HU is kept."""

OVERSHOOT_HU = 250.0
"""HU by which a slice may leave the range of its source as a whole."""

BACK_PROJECTIONS = 12
"""Smooth corrections before the exact one; each leaves a fraction of the difference, so that what the exact one shifts
block by block is too little to be seen as dots along edges."""

BISECTIONS = 40
"""Halvings of a bracket of at most some ten thousand HU: far below float32's resolution."""

NOISE_BAND = 2.0
"""Standard deviations of its noise by which the source itself may be wrong."""


def keep_local_mean(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Add a smooth correction, after which the mean HU of every neighbourhood is the source's.

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
    """Keep every pixel within the range that its neighbourhood in the source makes plausible.

    Sharpening overshoots: where a network unit is worth thousands of HU (bone), a small overshoot would become metal.
    A pixel may leave the range of its neighbourhood by that range's own width, and the slice's range by 250 HU.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    return _within(fine, _plausible(source, scale), scale)


def _plausible(source: FloatArray, scale: int) -> Bounds:
    lowest, highest = _extremes(source)
    return lowest.repeat(scale, axis=1)[:, None], highest.repeat(scale, axis=1)[:, None]


def _extremes(source: FloatArray, *, spared: FloatArray | float = 0.0) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest HU allowed around each source pixel: the local range, widened by itself, less where ``spared``."""
    lowest, highest = neighbourhood_bounds(source)
    beyond = (highest - lowest) * (1 - spared)
    return np.maximum(lowest - beyond, source.min() - OVERSHOOT_HU), np.minimum(
        highest + beyond, source.max() + OVERSHOOT_HU
    )


def _within(fine: FloatArray, bounds: Bounds, scale: int) -> FloatArray:
    limited: FloatArray = np.clip(fine.reshape(-1, scale, fine.shape[1]), *bounds).reshape(fine.shape)
    return limited


def agree_with_source(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Bound a super-resolved slice by its source and keep the source's local mean; arguments as for the two steps.

    The bounds come first, so that the mean counts what they cut off, and again last, so that they hold.
    """
    bounds = _plausible(source, scale)
    return _within(keep_local_mean(_within(fine, bounds, scale), source, scale), bounds, scale)


def agree_through_spread(fine: FloatArray, source: FloatArray, scale: int, fwhm: float | None = None) -> FloatArray:
    """Put back what the source shows through its point spread; noise justifies no overshoot and must not grow.

    Where a neighbourhood of the source holds no edge, its HU may not be left (a dark pixel of noise must not become a hole),
    and deviations are no larger than interpolation's (:mod:`qdm_med.inference.noise_guard`).

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU. It is not made to keep local means first: that would take the
            point spread for a box, and leave a halo beside sharp edges.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.
        fwhm: As for :func:`~qdm_med.inference.forward_model.return_to_source`.
    """
    # Bounds that jump from one source pixel to the next would cut dots into an edge that passes through.
    lowest, highest = (_between_pixels(bound, scale) for bound in _extremes(source, spared=faintness(source)))
    returned = return_to_source(np.clip(fine, lowest, highest), source, scale, fwhm)
    return limit_noise(np.clip(returned, lowest, highest), source, scale)


def _between_pixels(bound: FloatArray, scale: int) -> FloatArray:
    """Interpolate a bound of source pixels onto the fine grid, linearly between their centres."""
    image = torch.from_numpy(np.asarray(bound, np.float32))[None, None]
    fine: FloatArray = F.interpolate(image, scale_factor=scale, mode="bilinear", align_corners=False)[0, 0].numpy()
    return fine


def hard_consistency(
    fine: FloatArray, source: FloatArray, scale: int, *, hu_range: tuple[float, float] = (HU_MIN, HU_MAX)
) -> FloatArray:
    """Change a super-resolved slice so that the area mean of each block is exactly the source's pixel.

    Smooth back-projections (Irani and Peleg, CVGIP 53, 1991) take most of the difference away without showing the blocks;
    what is left is the nearest image, block by block, with the right mean and all HU in range. Rounding to stored units
    afterwards moves a mean by at most half a unit.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled; clipped to ``hu_range`` first.
        scale: Magnification.
        hu_range: Lowest and highest HU that can be written.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    target = np.clip(source.astype(np.float64), *hu_range)
    image = fine.astype(np.float64)
    for _ in range(BACK_PROJECTIONS):
        residual = torch.from_numpy(target - block_mean(image, scale))[None, None]
        image += upsample(residual, scale)[0, 0].numpy()
    return _with_block_means(image, target, scale, hu_range)


def soft_consistency(
    fine: FloatArray,
    source: FloatArray,
    scale: int,
    *,
    noise: float | None = None,
    hu_range: tuple[float, float] = (HU_MIN, HU_MAX),
) -> FloatArray:
    """Change a super-resolved slice likewise, but leave a mean that differs by no more than the source's noise.

    Args:
        fine: As for :func:`hard_consistency`.
        source: As for :func:`hard_consistency`.
        scale: Magnification.
        noise: Standard deviation of the source's noise in HU; ``None``: :func:`noise_hu` of it.
        hu_range: As for :func:`hard_consistency`.

    Returns:
        ``(scale rows, scale columns)`` float32 HU, whose block means lie within two standard deviations of the source.
    """
    band = NOISE_BAND * (noise_hu(source) if noise is None else noise)
    own = block_mean(fine.astype(np.float64), scale)
    return hard_consistency(fine, np.clip(own, source - band, source + band), scale, hu_range=hu_range)


def _with_block_means(
    image: NDArray[np.float64], target: NDArray[np.float64], scale: int, hu_range: tuple[float, float]
) -> FloatArray:
    """Nearest image with these block means and all HU in range: each block is shifted by a constant, then clipped.

    The mean of a clipped block grows with its shift, so that the shift is found by bisection.
    """
    low, high = hu_range
    blocks = rearrange(image, "(row sy) (column sx) -> row column (sy sx)", sy=scale, sx=scale)
    least = low - blocks.max(axis=-1)  # all pixels at the lower end
    most = high - blocks.min(axis=-1)
    for _ in range(BISECTIONS):
        middle = (least + most) / 2
        too_low = np.clip(blocks + middle[..., None], low, high).mean(axis=-1) < target
        least, most = np.where(too_low, middle, least), np.where(too_low, most, middle)
    shifted = np.clip(blocks + ((least + most) / 2)[..., None], low, high)
    matched: FloatArray = rearrange(
        shifted.astype(np.float32), "row column (sy sx) -> (row sy) (column sx)", sy=scale, sx=scale
    )
    return matched


def back_projected(
    fine: FloatArray, source: FloatArray, scale: int, how: str, *, fwhm: float | None = None
) -> FloatArray:
    """Make a super-resolved slice agree with its source, as strictly as is asked.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.
        how: ``"off"``: bounded by the source's neighbourhoods only; ``"local"``: :func:`agree_with_source`; ``"spread"``:
            :func:`agree_through_spread`; ``"soft"`` and ``"hard"``: after ``"local"``
            :func:`soft_consistency` and :func:`hard_consistency`.
        fwhm: For ``"spread"``: full width at half maximum of the source's point spread in its pixels; ``None``: estimated.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    if how == "off":
        return limit_overshoot(fine, source, scale)
    if how == "spread":
        return agree_through_spread(fine, source, scale, fwhm)
    agreed = agree_with_source(fine, source, scale)
    if how == "local":
        return agreed
    return {"soft": soft_consistency, "hard": hard_consistency}[how](agreed, source, scale)
