"""Search for the file axis along which the scanner's slices lie: super-resolution works on the other two."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError

Axes = tuple[int, int, int]
"""Numbers of a file's axes, from 0, that count slices, rows and columns; the usual ones are (2, 1, 0)."""

USUAL: Axes = (2, 1, 0)
SAME, ISOTROPIC, THICK = 0.01, 0.05, 1.5
"""Relative differences of spacings that count as none, as isotropic, and ratio from which one must be that of slices."""
UPRIGHT = 0.9
"""Cosine with the patient's long axis above which an axis counts as lying along it."""


def with_slices_along(axis: int) -> Axes:
    """Order the axes for slices along one of them: of the two others, the later counts rows.

    >>> with_slices_along(2), with_slices_along(0)
    ((2, 1, 0), (0, 2, 1))
    """
    column, row = (other for other in range(3) if other != axis)
    return axis, row, column


def choose_axes(sizes: tuple[int, int, int], affine: NDArray[np.float64], asked: int | None) -> tuple[Axes, str]:
    """Find the axes of a volume file from its spacings, and where these are equal from its orientation.

    Two axes of equal spacing are those of the scanner's pixels; the third is thicker, or lies along the patient. Where all
    three are equal, slices lie along the patient.

    Args:
        sizes: Voxels along each axis of the file.
        affine: ``(4, 4)``, index along each axis of the file -> place in mm, third component along the patient.
        asked: The axis of the slices, if the user names it.

    Returns:
        The axes, and a line that says so where they are not the usual ones; else an empty one.

    Raises:
        SeriesError: If the user names no axis of the file.
    """
    if asked is not None and asked not in (0, 1, 2):
        raise SeriesError(f"--axis {asked}: a volume has the axes 0, 1 and 2; choose one of them")
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    axis = _slice_axis(sizes, spacing, affine) if asked is None else asked
    if axis == USUAL[0]:
        return USUAL, ""
    told = "as --axis says" if asked is not None else "by spacing and orientation; --axis 2 takes the last axis"
    spacings = " x ".join(f"{value:.4g}" for value in spacing)
    return with_slices_along(axis), f"slices lie along axis {axis} of the file ({spacings} mm, {told})"


def _slice_axis(sizes: tuple[int, int, int], spacing: NDArray[np.float64], affine: NDArray[np.float64]) -> int:
    if 1 in sizes:  # one slice: its thickness says nothing
        return USUAL[0] if sizes[USUAL[0]] == 1 or sizes.count(1) > 1 else sizes.index(1)
    along = np.abs(affine[2, :3]) / spacing
    for axis in range(3):
        one, other = (spacing[each] for each in range(3) if each != axis)
        thicker = spacing[axis] > (1 + ISOTROPIC) * max(one, other)
        thinner = spacing[axis] < (1 - ISOTROPIC) * min(one, other) and along[axis] > UPRIGHT
        if (abs(one - other) <= SAME * other and (thicker or thinner)) or spacing[axis] >= THICK * max(one, other):
            return axis
    if spacing.max() <= (1 + ISOTROPIC) * spacing.min() and along.max() > UPRIGHT:
        return int(along.argmax())
    return USUAL[0]
