"""Volumes of another kind in the form of a volume file, so that DICOM series become NIfTI, NRRD or MetaImage."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdm_med.io.dicom.reader import DicomSlices
from qdm_med.io.raster.base import LEAST_HU, MOST_HU, RasterSlices
from qdm_med.volume import CtSlice, Volume


class ForeignSlices(RasterSlices):
    """Slices from another reader, which also says what is padding.

    Args:
        volume: A DICOM series, or a volume in memory.
    """

    def __init__(self, volume: Volume) -> None:
        self._of = volume
        integer = isinstance(volume.slices, DicomSlices) and all(map(_whole, volume.slices.headers))
        super().__init__(self._plane, volume.geometry, integer=integer)
        if integer and isinstance(volume.slices, DicomSlices):
            ends = [end for header in volume.slices.headers for end in _ends(header)]
            if min(ends) < LEAST_HU or max(ends) > MOST_HU:
                self.dtype = np.dtype("<i4")

    def __getitem__(self, index: int) -> CtSlice:
        return self._of.slices[index]

    def _plane(self, index: int) -> NDArray[Any]:
        hu = self._of.slices[index].hu
        return np.rint(hu).astype(np.int32) if self.dtype.kind == "i" else hu


def _whole(header: Any) -> bool:
    """Whether the values of a slice are whole HU."""
    slope, intercept = header.rescale
    return float(slope).is_integer() and float(intercept).is_integer()


def _ends(header: Any) -> tuple[float, float]:
    """HU of the smallest and largest values that a slice can hold."""
    slope, intercept = header.rescale
    low, high = header.pixel_format().limits
    return slope * low + intercept, slope * high + intercept
