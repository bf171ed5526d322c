"""Mask of the patient in a slice: without the air around, the table and padding."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_fill_holes, binary_opening, generate_binary_structure, label, median

from qdm_med.volume import BoolArray, FloatArray

BODY_HU = -300.0
"""Tissue is denser than this; lungs, bowel gas and air are not."""

OUTSIDE_HU = -930.0
"""The median of the air around a patient is below this, also where its noise was clipped at -1024; that of a lung that the
border of a zoomed image cuts is not."""

TABLE_SHARE = 64
"""Structures thinner than about a 32nd of the slice's longer side are no body: tables, cradles, sheets."""

SMALLEST_SHARE = 0.05
"""Smallest part of the body (an arm, a leg) in units of the largest."""

_CROSS, _SQUARE = generate_binary_structure(2, 1), generate_binary_structure(2, 2)


def anatomy_mask(hu: FloatArray, padding: BoolArray) -> BoolArray:
    """Mark the patient and one pixel around, so that the skin belongs to it.

    Thin structures are opened away and only what hangs on the rest grows back; then everything is the patient that air
    cannot reach from the border: lungs and bowel gas are, and so is a lung that the border of a zoomed image cuts.

    Args:
        hu: ``(rows, columns)`` HU, padding filled.
        padding: ``(rows, columns)`` bool, True where the scanner recorded nothing.

    Returns:
        ``(rows, columns)`` bool.
    """
    dense = hu > BODY_HU
    radius = max(1, round(max(hu.shape) / TABLE_SHARE))
    # The border of the image cuts the body, it does not end it: opening must not nibble there.
    padded = np.pad(dense, radius, mode="edge")
    opened = binary_opening(padded, _CROSS, iterations=radius)[radius:-radius, radius:-radius]
    body = _large_parts(binary_dilation(opened, _SQUARE, iterations=2 * radius, mask=dense))
    inside = binary_fill_holes(body) | _gas_at_the_border(hu, body)
    marked: BoolArray = binary_dilation(inside, _SQUARE) & ~padding
    return marked


def _large_parts(mask: BoolArray) -> BoolArray:
    parts, count = label(mask, _SQUARE)
    if not count:
        return mask
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    large: BoolArray = (sizes >= SMALLEST_SHARE * sizes.max())[parts] & mask
    return large


def _gas_at_the_border(hu: FloatArray, body: BoolArray) -> BoolArray:
    """Mark regions that are no body but too dense for the air around a patient."""
    regions, count = label(~body)
    typical = median(hu, regions, np.arange(1, count + 1)) if count else []
    return np.concatenate([[False], np.asarray(typical) > OUTSIDE_HU])[regions] & bool(body.any())
