"""Data consistency: the super-resolved slice, degraded again, against the slice that the worse scanner saw.

(The column ``area_mae_hu`` beside it takes the area mean for the scanner, which needs no parameters.)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from qdm_med.data.degradation.degrade import DegradationParams, degrade
from qdm_med.intensity import IntensityMap
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Consistency:
    """``A(SR) - LR`` in HU, over the pixels of the low-resolution slice.

    Attributes:
        bias_hu: Mean: a drift of the HU scale.
        mae_hu: Mean absolute value. It holds the noise of the low-resolution slice, which no faithful image has.
        smooth_hu: Root mean square after smoothing over 3 x 3 pixels, where noise is a third: invented or lost structure.
    """

    bias_hu: float
    mae_hu: float
    smooth_hu: float


def project(hu: FloatArray, params: DegradationParams, intensity: IntensityMap) -> FloatArray:
    """Apply A, in the range in which the benchmark was degraded.

    Args:
        hu: ``(scale rows, scale columns)`` HU.
        params: Parameters of the degradation that made the low-resolution slice.
        intensity: The mapping it was made with.

    Returns:
        ``(rows, columns)`` float32 HU.
    """
    image = torch.from_numpy(intensity.to_unit(hu))[None, None]
    return intensity.to_hu(degrade(image, [params.noise_free()], intensity=intensity)[0, 0].numpy())


def data_consistency(
    hu: FloatArray, low_hu: FloatArray, params: DegradationParams, intensity: IntensityMap
) -> Consistency:
    """Compare ``A(hu)`` with the low-resolution slice.

    Args:
        hu: ``(scale rows, scale columns)`` HU.
        low_hu: ``(rows, columns)`` HU that the method was given.
        params: Parameters of the degradation that made ``low_hu``.
        intensity: The mapping it was made with.
    """
    residual = project(hu, params, intensity).astype(np.float64) - low_hu
    image = torch.from_numpy(residual)[None, None]
    smooth = torch.nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False).numpy()
    return Consistency(
        bias_hu=float(residual.mean()),
        mae_hu=float(np.abs(residual).mean()),
        smooth_hu=float(np.sqrt(np.square(smooth).mean())),
    )
