"""Label files of a series, carried onto its finer grid: every pixel keeps the label at its centre."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.dicom.rescale import magnified
from qdm_med.io.options import WriterOptions
from qdm_med.io.raster.base import RasterSlices
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
from qdm_med.volume import Geometry, Volume

CORNER_TOLERANCE = 0.5
"""Pixels by which the corners of a label file may miss those of its series: files round."""


def carry_labels(labels: Path, volume: Volume, out: Path, derivation: Derivation, writing: WriterOptions) -> Path:
    """Write a label file anew on the grid of the super-resolved series.

    Args:
        labels: NIfTI, NRRD or MetaImage file of integers on the grid of ``volume``; rows, columns and slices may count the
            other way.
        volume: The source of the series.
        out: File to create, of a format of volume files.
        derivation: Record of how the series was computed.
        writing: Options of the series' output.

    Returns:
        The file.

    Raises:
        SeriesError: If it holds no labels, lies on another grid, or cannot be written.
    """
    read = read_labels(labels, volume)
    matrix = derivation.matrix_of(*volume.geometry.shape[1:])
    read_plane = cast(RasterSlices, read.slices).read_plane
    if _transposed(labels, read.geometry, volume.geometry):
        matrix = matrix[1], matrix[0]
    nearest = replace(derivation, matrix=matrix, parameters=(("labels", "nearest"),))
    with open_writer(read, out, nearest, writing) as writer:
        for index in range(len(read)):
            writer.write(index, magnified(read_plane(index), matrix).astype(np.float32))
        return writer.commit()


def read_labels(labels: Path, volume: Volume) -> Volume:
    """Read a label file that lies on the grid of a series.

    Raises:
        SeriesError: If it holds no labels or lies on another grid.
    """
    read = read_volume(labels, force=True)
    if not isinstance(read.slices, RasterSlices) or read.slices.dtype.kind != "i":
        raise SeriesError(f"{shown(labels)}: holds no integers; labels are whole numbers")
    _transposed(labels, read.geometry, volume.geometry)
    return read


def _transposed(labels: Path, own: Geometry, other: Geometry) -> bool:
    """Whether rows of the labels run along columns of the series.

    Raises:
        SeriesError: If the two grids do not fill the same place in the patient with the same pixels.
    """
    tolerance = CORNER_TOLERANCE * min(other.spacing[1:])
    corners, expected = _outer_corners(own), _outer_corners(other)
    apart = np.linalg.norm(corners[:, None] - expected[None], axis=2)
    same = sorted(own.shape) == sorted(other.shape) and own.shape[0] == other.shape[0]
    if not same or apart.min(axis=1).max() > tolerance or apart.min(axis=0).max() > tolerance:
        raise SeriesError(
            f"{shown(labels)}: its grid of {own.shape} voxels is not that of the series, {other.shape}; give labels that were "
            "drawn on the series"
        )
    along = [abs(float(own.affine[:3, 1] @ other.affine[:3, axis])) / other.spacing[axis] for axis in (1, 2)]
    return along[1] > along[0]


def _outer_corners(geometry: Geometry) -> NDArray[np.float64]:
    """``(8, 3)`` places in mm of the outer corners of a grid."""
    ends = np.array([[-0.5, side - 0.5] for side in geometry.shape])
    index = np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3)
    places: NDArray[np.float64] = index @ geometry.affine[:3, :3].T + geometry.affine[:3, 3]
    return places
