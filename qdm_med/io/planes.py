"""Slices of a file that holds a whole volume, read plane by plane."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.volume import CtSlice, Geometry

VOID_HU = -1024.0
"""HU that stand where a file holds no number, and where an integer file is told of padding."""

READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, zlib.error)
"""What nibabel, gzip and SimpleITK raise on damaged files; SimpleITK knows RuntimeError only."""


def grid_key(prefix: str, geometry: Geometry) -> str:
    """Identity of a volume whose format has none: a hash of the grid, of no name and no pixel.

    >>> grid_key("nifti", Geometry((1, 4, 4), np.eye(4)))[:14]
    'nifti-51e07fd0'
    """
    # Rounding and + 0.0: neither the last bit of a product nor the sign of a zero shall change the noise.
    affine = np.round(geometry.affine, 6) + 0.0
    grid = np.asarray(geometry.shape, dtype="<i8").tobytes() + affine.astype("<f8").tobytes()
    return f"{prefix}-{hashlib.sha256(grid).hexdigest()}"


def slice_positions(geometry: Geometry) -> NDArray[np.float64]:
    """``(slices,)`` places along the unit normal of the slices in mm; the normal points to the next slice."""
    normal = np.cross(geometry.affine[:3, 2], geometry.affine[:3, 1])
    normal /= np.linalg.norm(normal)
    to_next = geometry.affine[:3, 0] @ normal
    return np.sign(to_next) * (geometry.affine[:3, 3] @ normal + to_next * np.arange(geometry.shape[0]))


def check_invertible(path: Path, affine: NDArray[np.float64]) -> None:
    """Refuse an affine that folds the volume flat or holds something that is not a number.

    Raises:
        SeriesError: If voxels cannot be told apart by their places.
    """
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(affine[:3, :3]) < 3:
        raise SeriesError(f"{path}: the affine is singular, voxels have no places; mend spacing and directions")


class PlaneSlices:
    """Slices that ``read_plane`` reads when they are indexed; the last one is kept, for it is asked for twice.

    Args:
        path: The file, for messages.
        geometry: Its grid.
        read_plane: Index -> ``(rows, columns)`` HU of any real type; what is not finite counts as padding.
    """

    def __init__(self, path: Path, geometry: Geometry, read_plane: Callable[[int], NDArray[Any]]) -> None:
        self._path = path
        self._shape = geometry.shape
        self._positions = slice_positions(geometry)
        self._read_plane = read_plane
        self._last: tuple[int, CtSlice] | None = None

    def __len__(self) -> int:
        """Count the slices."""
        return self._shape[0]

    def __getitem__(self, index: int) -> CtSlice:
        """Read one slice.

        Raises:
            SeriesError: If the file is damaged there.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of a volume of {len(self)}")
        if self._last is None or self._last[0] != index:
            self._last = index, self._read(index)
        return self._last[1]

    def _read(self, index: int) -> CtSlice:
        try:
            plane = self._read_plane(index)
        except READ_ERRORS as error:
            raise SeriesError(
                f"{self._path}: slice {index} cannot be read ({type(error).__name__}), "
                "the file is damaged or truncated; copy it again"
            ) from error
        with np.errstate(over="ignore"):  # beyond float32 is as little a HU as infinity
            hu = np.array(plane, dtype=np.float32, order="C")
        padding = ~np.isfinite(hu)
        hu[padding] = VOID_HU
        return CtSlice(hu, padding, float(self._positions[index]))
