"""Guard against amplified noise: wherever the source shows nothing but noise, no more of it than interpolation shows.

A network that sharpens may promote noise. Where a neighbourhood of the source holds no edge, the deviations of the
super-resolved slice from its local mean are made no larger than those of the interpolated source; what the network made
quieter stays as it is, and so does everything near an edge. Mean and deviation are those of the pixels without an edge:
one edge at a distance of five pixels has more variance than all the noise.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, maximum_filter, minimum_filter

from qdm_med.resample import block_mean, upsample
from qdm_med.volume import FloatArray

REACH = 5
"""Side, in source pixels, of the neighbourhood whose HU bound a pixel inside it, and whose range tells noise from an edge."""

FAINT_HU = (60.0, 180.0)
"""Range up to which a neighbourhood may hold nothing but noise and faint lesions, and from which it holds an edge."""

NEIGHBOURHOOD = 2.0
"""Standard deviation, in source pixels, of the neighbourhood whose deviations are compared."""

LEAST_HU = 0.5
"""Deviations below this are rounding."""

LEAST_WEIGHT = 1e-6
"""Keeps a neighbourhood that is all edge from a division by zero; no pixel there is touched."""


def neighbourhood_bounds(source: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Lowest and highest HU of the neighbourhood of each source pixel, ``(rows, columns)`` each."""
    return minimum_filter(source, REACH, mode="nearest"), maximum_filter(source, REACH, mode="nearest")


def faintness(source: FloatArray) -> FloatArray:
    """Degree to which each source pixel's neighbourhood lacks an edge: 1 up to the lower range, 0 from the upper one."""
    lowest, highest = neighbourhood_bounds(source)
    none, full = FAINT_HU
    faint: FloatArray = np.asarray(1 - np.clip((highest - lowest - none) / (full - none), 0, 1), dtype=np.float32)
    return faint


def limit_noise(fine: FloatArray, source: FloatArray, scale: int) -> FloatArray:
    """Shrink deviations in faint neighbourhoods to the size of interpolation's.

    Args:
        fine: ``(scale rows, scale columns)`` super-resolved HU.
        source: ``(rows, columns)`` source HU, padding filled.
        scale: Magnification.

    Returns:
        ``(scale rows, scale columns)`` float32 HU.
    """
    faint = faintness(source)
    mean, deviation = _local(fine, scale, faint)
    _, interpolated = _local(_enlarged(source, scale), scale, faint)
    allowed = np.minimum(1.0, (interpolated + LEAST_HU) / (deviation + LEAST_HU))
    factor = 1 - gaussian_filter(faint * (1 - allowed), 1.0, mode="nearest")
    middle = _enlarged(mean, scale)
    limited: FloatArray = middle + _enlarged(factor, scale) * (fine - middle)
    return limited


def _local(fine: FloatArray, scale: int, weight: FloatArray) -> tuple[FloatArray, NDArray[np.float32]]:
    """Mean and standard deviation of every neighbourhood, on the source's grid."""
    centred = fine - np.float32(fine.mean())  # squares of HU far from zero would lose their digits
    counted = _neighbourhood(weight) + LEAST_WEIGHT
    mean = _neighbourhood(weight * block_mean(centred, scale)) / counted
    square = _neighbourhood(weight * block_mean(centred**2, scale)) / counted
    return mean + np.float32(fine.mean()), np.sqrt(np.maximum(square - mean**2, 0))


def _neighbourhood(image: FloatArray) -> FloatArray:
    smooth: FloatArray = gaussian_filter(image, NEIGHBOURHOOD, mode="nearest")
    return smooth


def _enlarged(image: FloatArray, scale: int) -> FloatArray:
    enlarged: FloatArray = upsample(torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None], scale)[
        0, 0
    ].numpy()
    return enlarged
