"""Metrics of closeness to the true image, for images of any range.

Their data range is an argument without which the figures mean nothing; :mod:`qdm_med.evaluation.measures.protocols` says which
ranges are used.
"""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from monai.metrics.regression import MultiScaleSSIMMetric, compute_ssim_and_cs
from torch import Tensor

DATA_RANGE = 2.0
"""Width of [-1, 1], the network's range."""

SSIM_WINDOW = 11
"""Side of SSIM's Gaussian window in pixels (Wang et al., IEEE TIP 13, 2004)."""
SSIM_SIGMA = 1.5

SMALLEST_MS_SSIM_SIDE = SSIM_WINDOW * 2**4
"""Multi-scale SSIM halves the image four times and must still hold a window."""


def psnr(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE, mask: Tensor | None = None) -> Tensor:
    """Peak signal-to-noise ratio of ``(B, C, H, W)`` images, ``(B,)`` in dB; infinite for equal images.

    Args:
        prediction: Images.
        reference: True images.
        data_range: Largest minus smallest value that images of this kind can have.
        mask: ``(H, W)`` bool; only these pixels count. NaN where there are none.
    """
    squared = (prediction.double() - reference.double()).square()
    error = squared.flatten(1) if mask is None else squared[..., mask].flatten(1)
    return 10.0 * torch.log10(data_range**2 / error.mean(dim=1))


def ssim_map(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE) -> Tensor:
    """Structural similarity around every pixel at least 5 from the border, ``(B, C, H - 10, W - 10)`` float32.

    MONAI computes in float32 whatever it is given: with a nearly flat window the variances, differences of nearly equal numbers, are
    off by 1e-7 of the squared values, which the constant beside them, 4e-3 for a data range of 2, hides.
    """
    similarity, _ = compute_ssim_and_cs(
        prediction,
        reference,
        spatial_dims=2,
        kernel_size=(SSIM_WINDOW, SSIM_WINDOW),
        kernel_sigma=(SSIM_SIGMA, SSIM_SIGMA),
        data_range=data_range,
    )
    return similarity


def ssim(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE, mask: Tensor | None = None) -> Tensor:
    """Structural similarity of ``(B, C, H, W)`` images, ``(B,)``: Gaussian window of 11, sigma 1.5, whole windows only.

    Args:
        prediction: Images.
        reference: True images.
        data_range: As for :func:`psnr`.
        mask: ``(H, W)`` bool; only windows centred on these pixels count. NaN where there are none.
    """
    return masked_mean(ssim_map(prediction, reference, data_range), mask)


def masked_mean(similarity: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of a :func:`ssim_map` over all its pixels or those of an ``(H, W)`` mask of the whole image, ``(B,)``."""
    if mask is None:
        return similarity.flatten(1).mean(dim=1)
    border = SSIM_WINDOW // 2
    return similarity[..., mask[border:-border, border:-border]].flatten(1).mean(dim=1)


def ms_ssim(prediction: Tensor, reference: Tensor, data_range: float = DATA_RANGE) -> Tensor:
    """Multi-scale SSIM of ``(B, C, H, W)`` images with the five weights of its paper, ``(B,)``.

    NaN for images with a side below 176 pixels, which do not hold five scales.
    """
    if min(prediction.shape[-2:]) < SMALLEST_MS_SSIM_SIDE:
        return torch.full((len(prediction),), float("nan"))
    metric = MultiScaleSSIMMetric(
        spatial_dims=2, data_range=data_range, kernel_size=SSIM_WINDOW, kernel_sigma=SSIM_SIGMA
    )
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
