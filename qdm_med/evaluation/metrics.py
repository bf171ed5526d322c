"""How close a super-resolved slice is to the true one.

PSNR and SSIM are taken on the network's range [-1, 1], so their data range is 2; the errors in HU after mapping
back. Predictions are clamped to [-1, 1] first: nothing outside it can be written to a CT.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from torch import Tensor

from qdm_med.evaluation.perceptual import LpipsSqueeze
from qdm_med.intensity import IntensityMap

DATA_RANGE = 2.0
"""Width of [-1, 1]."""

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual soft-tissue display window (centre 40, width 400)."""

PSNR = "psnr_db"
SSIM = "ssim"
MAE = "mae_hu"
SOFT_TISSUE_MAE = "soft_tissue_mae_hu"
LPIPS = "lpips_squeeze"

HIGHER_IS_BETTER = {PSNR: True, SSIM: True, MAE: False, SOFT_TISSUE_MAE: False, LPIPS: False}


def psnr(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE) -> Tensor:
    """Peak signal-to-noise ratio of ``(B, C, H, W)`` images, ``(B,)`` in dB; infinite for equal images."""
    error = (prediction.double() - reference.double()).square().flatten(1).mean(dim=1)
    return 10.0 * torch.log10(data_range**2 / error)


def ssim(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE) -> Tensor:
    """Structural similarity of ``(B, C, H, W)`` images, ``(B,)``: Gaussian window of 11, sigma 1.5, whole windows only."""
    metric = SSIMMetric(spatial_dims=2, data_range=data_range, win_size=11, kernel_sigma=1.5)
    # In float64: with a nearly flat window the variances are differences of nearly equal numbers.
    return cast(Tensor, metric(prediction.double(), reference.double())).flatten()


def mae_hu(prediction_hu: np.ndarray, reference_hu: np.ndarray, within: tuple[float, float] | None = None) -> float:
    """Mean absolute error in HU, over all pixels or those whose true HU lies ``within`` a closed range.

    Returns:
        NaN where no pixel lies in the range.
    """
    error = np.abs(prediction_hu.astype(np.float64) - reference_hu)
    if within is not None:
        error = error[(reference_hu >= within[0]) & (reference_hu <= within[1])]
    return float(error.mean()) if error.size else float("nan")


def score_slice(
    prediction: Tensor, reference: Tensor, *, intensity: IntensityMap, perceptual: LpipsSqueeze | None = None
) -> dict[str, float]:
    """All metrics of one slice.

    Args:
        prediction: ``(1, 1, H, W)``, clamped to [-1, 1] here.
        reference: ``(1, 1, H, W)`` in [-1, 1].
        intensity: Mapping back to HU; HU outside its range were clipped in both images.
        perceptual: LPIPS; its column is left out without it.

    Returns:
        Column name -> value.
    """
    prediction = prediction.clamp(-1.0, 1.0)
    prediction_hu, reference_hu = (intensity.to_hu(image.cpu().numpy()) for image in (prediction, reference))
    scores = {
        PSNR: float(psnr(prediction, reference)),
        SSIM: float(ssim(prediction, reference)),
        MAE: mae_hu(prediction_hu, reference_hu),
        SOFT_TISSUE_MAE: mae_hu(prediction_hu, reference_hu, SOFT_TISSUE_HU),
    }
    if perceptual is not None:
        with torch.no_grad():
            scores[LPIPS] = float(perceptual(prediction, reference))
    return scores
