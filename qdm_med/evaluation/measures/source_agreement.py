"""Agreement of a super-resolved slice with its own source: all that can be said where the true slice is unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdm_med.evaluation.measures.agreement import tissue_means
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.intensity import HU_MIN
from qdm_med.resample import block_mean
from qdm_med.volume import CtSlice, FloatArray


@dataclass(frozen=True)
class SourceAgreement:
    """Distance of a slice from its source, in HU; NaN where there is nothing to compare; padding does not count.

    Attributes:
        bias: Mean of ``A(SR) - LR``, where A is the mean of each block.
        mae: Its mean absolute value.
        most: 99th percentile of its absolute value.
        tissues: Mean of block means minus mean of the source, over the interior of each tissue of :data:`TISSUES`.
    """

    bias: float
    mae: float
    most: float
    tissues: tuple[float, ...]


def source_agreement(hu: FloatArray, ct_slice: CtSlice, scale: int) -> SourceAgreement:
    """Compare a super-resolved slice with its source.

    Args:
        hu: ``(scale rows, scale columns)`` HU.
        ct_slice: The source, ``(rows, columns)``.
        scale: Magnification.
    """
    averaged = block_mean(hu.astype(np.float64), scale)
    difference = (averaged - ct_slice.hu)[~ct_slice.padding]
    if difference.size == 0:
        return SourceAgreement(np.nan, np.nan, np.nan, (np.nan,) * len(TISSUES))
    # Padding becomes a value of no tissue, so that erosion keeps away from its border, too.
    source = np.where(ct_slice.padding, HU_MIN, ct_slice.hu)
    pairs = [tissue_means(averaged.astype(np.float32), source, tissue) for tissue in TISSUES]
    return SourceAgreement(
        bias=float(difference.mean()),
        mae=float(np.abs(difference).mean()),
        most=float(np.quantile(np.abs(difference), 0.99)),
        tissues=tuple(np.nan if pair is None else pair[0] - pair[1] for pair in pairs),
    )
