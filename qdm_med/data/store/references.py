"""One slice of 512 x 512 or more to a 512 x 512 int16 reference, and a thumbnail that recognises it again."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdm_med.data.store.slices import HuArray
from qdm_med.intensity import HU_MAX, HU_MIN
from qdm_med.resample import area_mean
from qdm_med.volume import CtSlice, FloatArray

REFERENCE_SIDE = 512
"""Side of a high-resolution reference in pixels (QDM, arXiv 2503.12015)."""

THUMBNAIL_SIDE = 16
THUMBNAIL_TOP_HU = 400.0
"""Thumbnails are clipped here, so that metal does not decide what is alike."""
NEAR_DUPLICATE_HU = 30.0
"""Root mean square difference of thumbnails below which two slices show the same place of the same patient.

Measured on the 508 slices of 57 patients this package was made with: another kernel, noise of 50 HU or a shift of
one pixel 6 to 11, neighbouring slices 10 to 30, slices of different patients at least 110.
"""


def unsuitable(shape: tuple[int, int], spacing: tuple[float, float]) -> str | None:
    """Say why slices of a grid cannot become references; ``None`` if they can.

    A matrix below 512 is never enlarged: a reference whose finest detail is interpolated would reward smoothness.

    Args:
        shape: Rows and columns.
        spacing: Distance of rows and of columns in mm.
    """
    rows, columns = shape
    if rows != columns:
        return f"matrix {rows} x {columns} is not square"
    if rows < REFERENCE_SIDE:
        return f"matrix {rows} x {columns} is smaller than {REFERENCE_SIDE}; a reference is never enlarged"
    if abs(spacing[0] / spacing[1] - 1) > 0.01:
        return f"pixels of {spacing[0]:.4g} x {spacing[1]:.4g} mm are not square"
    return None


def reference_hu(ct_slice: CtSlice) -> FloatArray:
    """Clip to [-1024, 3071] HU, set padding to -1024 and average to 512 x 512.

    A larger matrix is averaged over the exact area of each new pixel (:func:`qdm_med.resample.area_mean`), in HU; the outer
    edges of the field of view stay in place.

    Returns:
        ``(512, 512)`` float32 HU.

    Raises:
        ValueError: If the matrix is smaller; see :func:`unsuitable`.
    """
    hu: FloatArray = np.where(ct_slice.padding, HU_MIN, np.clip(ct_slice.hu, HU_MIN, HU_MAX)).astype(np.float32)
    return hu if hu.shape == (REFERENCE_SIDE, REFERENCE_SIDE) else area_mean(hu, (REFERENCE_SIDE, REFERENCE_SIDE))


def to_reference(ct_slice: CtSlice) -> HuArray:
    """:func:`reference_hu` in whole HU, as scanners store it: ``(512, 512)`` int16."""
    reference: HuArray = np.rint(reference_hu(ct_slice)).astype(np.int16)
    return reference


def thumbnail(hu: HuArray) -> FloatArray:
    """``(256,)`` mean HU of a reference's 16 x 16 blocks, clipped above 400 HU first."""
    block = hu.shape[0] // THUMBNAIL_SIDE
    clipped = np.minimum(hu, THUMBNAIL_TOP_HU).astype(np.float32)
    means: FloatArray = clipped.reshape(THUMBNAIL_SIDE, block, THUMBNAIL_SIDE, block).mean(axis=(1, 3)).ravel()
    return means


def nearest_pair(first: FloatArray, second: FloatArray, block: int = 4096) -> tuple[int, int, float]:
    """The most similar slices of two sets, by the root mean square difference of their thumbnails in HU.

    Args:
        first: ``(N, 256)`` thumbnails.
        second: ``(M, 256)`` thumbnails.
        block: Rows compared at once; bounds the memory.

    Returns:
        Index into ``first``, index into ``second``, difference.
    """
    best = (0, 0, float("inf"))
    right = second.astype(np.float64)
    norms = np.square(right).sum(axis=1)
    for start in range(0, len(first), block):
        left: NDArray[np.float64] = first[start : start + block].astype(np.float64)
        squared = np.square(left).sum(axis=1)[:, None] + norms - 2 * left @ right.T
        row, column = np.unravel_index(int(squared.argmin()), squared.shape)
        difference = float(np.sqrt(max(0.0, squared[row, column]) / first.shape[1]))
        if difference < best[2]:
            best = (start + int(row), int(column), difference)
    return best
