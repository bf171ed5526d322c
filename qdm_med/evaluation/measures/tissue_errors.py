"""Errors in HU by tissue: the mean over a slice is a mean over air and muscle, and hides errors of bone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.volume import BoolArray, FloatArray


def tissue_errors(hu: FloatArray, reference_hu: FloatArray, body: BoolArray) -> dict[str, float]:
    """Mean absolute and root mean square error of the slice, of the body and of every tissue class, bias of the body.

    Args:
        hu: ``(rows, columns)`` HU.
        reference_hu: ``(rows, columns)`` true HU, on which the classes are chosen.
        body: ``(rows, columns)`` bool, the patient.

    Returns:
        Column name -> HU; NaN where a slice has none of a tissue.
    """
    error = hu.astype(np.float64) - reference_hu
    found: dict[str, float] = {}
    for prefix, mask in _regions(reference_hu, body):
        own = error if mask is None else error[mask]
        found[f"{prefix}mae_hu"] = _mean(np.abs(own))
        found[f"{prefix}rmse_hu"] = _mean(np.square(own)) ** 0.5
    return found | {"bias_body_hu": _mean(error[body])}


def _regions(reference_hu: FloatArray, body: BoolArray) -> Iterator[tuple[str, BoolArray | None]]:
    yield "", None
    yield "body_", body
    for tissue in TISSUES:
        yield f"{tissue.name}_", tissue.mask(reference_hu)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
