"""CT volumes: slices in HU, their place in the patient, their origin.

Slices are read when asked for, so a volume of any length needs the memory of one slice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import GeometryError

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]


def subpixel_centre(scale: float) -> float:
    """Centre of the first of ``scale`` sub-pixels, in source pixels from the source pixel's centre.

    The outer edge of a pixel stays where it is when the pixel is divided; its first centre does not:
    this number is the half pixel that super-resolution tools lose most often.

    >>> subpixel_centre(4)
    -0.375
    """
    return (1 / scale - 1) / 2


@dataclass(frozen=True)
class Geometry:
    """Place of a volume's voxels in the patient.

    Attributes:
        shape: Number of voxels, ``(slices, rows, columns)``.
        affine: ``(4, 4)`` float64, voxel-centre index ``(slice, row, column, 1)`` -> LPS position in mm.
        frame_of_reference_uid: DICOM frame of reference; ``None`` if the source had none.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    frame_of_reference_uid: str | None = None

    def __post_init__(self) -> None:
        """Reject an affine that does not map voxels to places."""
        if self.affine.shape != (4, 4):
            raise GeometryError(f"affine must be 4x4, got {self.affine.shape}")
        if not np.isfinite(self.affine).all():
            raise GeometryError("affine has a value that is not a number")

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between neighbouring voxel centres in mm, (slice, row, column)."""
        between_slices, between_rows, between_columns = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(between_slices), float(between_rows), float(between_columns)

    def upscaled_in_plane(self, scale: int) -> Geometry:
        """The same field of view with ``scale`` times as many rows and columns.

        A pixel's *edge* stays put, so its first *centre* moves:

        >>> coarse = Geometry((1, 4, 4), np.diag([5.0, 1.0, 1.0, 1.0]))
        >>> fine = coarse.upscaled_in_plane(4)
        >>> fine.shape, fine.spacing
        ((1, 16, 16), (5.0, 0.25, 0.25))
        >>> fine.affine[:3, 3].tolist()
        [0.0, -0.375, -0.375]
        """
        if scale < 1:
            raise GeometryError(f"scale must be at least 1, got {scale}")
        _, rows, columns = self.shape
        return self.with_matrix((rows * scale, columns * scale))

    def with_matrix(self, matrix: tuple[int, int]) -> Geometry:
        """The same field of view with other rows and columns; the outer edges stay put."""
        slices, rows, columns = self.shape
        factors = matrix[0] / rows, matrix[1] / columns
        to_coarse_index = np.diag([1.0, 1 / factors[0], 1 / factors[1], 1.0])
        to_coarse_index[1:3, 3] = [subpixel_centre(factor) for factor in factors]
        return replace(self, shape=(slices, *matrix), affine=self.affine @ to_coarse_index)


@dataclass(frozen=True)
class Provenance:
    """Origin of a volume; nothing in it identifies the patient.

    Attributes:
        source_format: ``"dicom"``, ``"nifti"``, ``"itk"`` (NRRD, MetaImage) or ``"memory"``.
        series_key: Stable identity of the series, the key of its noise: the SeriesInstanceUID, or a hash of
            the grid where a format has no identity.
        files: Source files; for DICOM one per slice, in slice order.
        warnings: Oddities of the source (tilt, uneven gaps, ...), one line each.
        assumptions: Names and values of what was taken for granted in reading and changes HU or places (an offset, a unit,
            ...); recorded in what is derived.
    """

    source_format: str
    series_key: str
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()
    assumptions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CtSlice:
    """One slice of a volume.

    Attributes:
        hu: ``(rows, columns)`` float32 Hounsfield units, all finite; under ``padding`` the values mean nothing.
        padding: ``(rows, columns)`` bool, True where the scanner recorded nothing.
        position_mm: Place of the slice along the slice normal.
    """

    hu: FloatArray
    padding: BoolArray
    position_mm: float


class SliceSequence(Protocol):
    """Slices of one volume in the order of their positions, each read when it is indexed."""

    def __len__(self) -> int:
        """Count the slices."""
        ...

    def __getitem__(self, index: int) -> CtSlice:
        """Read one slice; ``0 <= index < len(self)``."""
        ...


@dataclass(frozen=True)
class Volume:
    """A CT volume: lazily read slices, their grid and their origin."""

    slices: SliceSequence
    geometry: Geometry
    provenance: Provenance

    def __post_init__(self) -> None:
        """Check that the grid counts as many slices as there are."""
        if len(self.slices) != self.geometry.shape[0]:
            raise GeometryError(f"{len(self.slices)} slices do not fit a grid of {self.geometry.shape[0]}")

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.slices)

    def __iter__(self) -> Iterator[CtSlice]:
        """Read the slices one after the other."""
        return (self.slices[index] for index in range(len(self)))

    @property
    def hu(self) -> FloatArray:
        """All slices at once, ``(slices, rows, columns)`` float32 HU: the whole volume in memory."""
        return np.stack([ct_slice.hu for ct_slice in self])

    @classmethod
    def from_array(cls, hu: FloatArray, geometry: Geometry, *, series_key: str = "memory") -> Volume:
        """Wrap ``(slices, rows, columns)`` Hounsfield units that are already in memory; nothing is padding."""
        if hu.shape != geometry.shape:
            raise GeometryError(f"an array of shape {hu.shape} does not fit a grid of {geometry.shape}")
        spacing = geometry.spacing[0]
        nothing = np.zeros(hu.shape[1:], dtype=bool)
        slices = tuple(
            CtSlice(np.asarray(plane, dtype=np.float32), nothing, index * spacing) for index, plane in enumerate(hu)
        )
        return cls(slices, geometry, Provenance("memory", series_key))
