"""Tissue classes by HU, and the regions of a slice in which methods are compared.

All of them are read off the true slice: a method cannot change which pixels it is judged on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, binary_fill_holes, binary_opening, label

from qdm_med.volume import BoolArray, FloatArray

SOFT_TISSUE_HU = (-160.0, 240.0)
"""The usual soft-tissue display window (centre 40, width 400)."""


@dataclass(frozen=True)
class Tissue:
    """A tissue class: a range of HU.

    Attributes:
        name: Name in column titles.
        low: Lowest HU of the class.
        high: Highest HU of the class, itself included.
    """

    name: str
    low: float
    high: float

    def mask(self, reference_hu: FloatArray) -> BoolArray:
        """Mark the pixels of the class, ``(rows, columns)`` bool."""
        inside: BoolArray = (reference_hu >= self.low) & (reference_hu <= self.high)
        return inside

    def interior(self, reference_hu: FloatArray) -> BoolArray:
        """Mark the pixels from which no two steps along rows and columns leave the class: no partial volume."""
        inner: BoolArray = binary_erosion(self.mask(reference_hu), iterations=2)
        return inner


TISSUES = (
    Tissue("lung", -950.0, -500.0),
    Tissue("fat", -150.0, -30.0),
    Tissue("soft_tissue", *SOFT_TISSUE_HU),
    Tissue("contrast_medium", 150.0, 500.0),
    Tissue("bone", 250.0, 3071.0),
)
"""Classes of all columns by tissue. They overlap: fat lies within the soft-tissue window, and HU alone cannot tell vessels with
contrast medium from spongy bone."""

BODY_HU = -500.0
"""The body is what is connected and denser than this, holes filled."""


def body_mask(hu: FloatArray) -> BoolArray:
    """Mark the patient: the largest connected piece above -500 HU and all it encloses; the table falls away.

    Returns:
        ``(rows, columns)`` bool; all False in a slice of air.
    """
    dense = binary_opening(hu > BODY_HU, iterations=2)
    pieces, count = label(dense)
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    filled: BoolArray = binary_fill_holes(pieces == sizes.argmax())
    return filled


def lung_mask(hu: FloatArray, body: BoolArray) -> BoolArray:
    """Mark air and lung within the body: below -500 HU."""
    return body & (hu < BODY_HU)


def bone_mask(hu: FloatArray, body: BoolArray) -> BoolArray:
    """Mark bone within the body: 250 HU and above."""
    return body & (hu >= TISSUES[-1].low)
