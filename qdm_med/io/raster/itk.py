# mypy: disable-error-code="no-untyped-call"
# SimpleITK says that it is typed, but its functions carry no annotations.
"""NRRD and MetaImage files, read through SimpleITK, which gives LPS millimetres for both.

Memory: an uncompressed MetaImage is read slice by slice; of other files SimpleITK reads everything at once, and
the voxels then stay in memory in the type of the file. Writing needs the memory of one slice: both formats are a
short text header and the voxels, put together here.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own manual calls it so
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.raster.base import RasterSlices, RasterWriter, ReadPlane, raster_volume, require_invertible
from qdm_med.volume import Geometry, Volume

META_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
ITK_SUFFIXES = (*NRRD_SUFFIXES, *META_SUFFIXES)
OUTPUT_SUFFIXES = (".nrrd", ".mha")
"""What is written: files that hold their voxels themselves, so that they appear at once."""
_META_KEY = "qdm_med"
"""Own field of a MetaImage; its standard Comment does not reach a reader."""
_DERIVED_KEYS = (TOOL, _META_KEY)


def read_itk(path: Path, *, force: bool = False) -> Volume:
    """Read an NRRD or MetaImage file of Hounsfield units; a plane is a volume of one slice.

    Args:
        path: A .nrrd, .mha or .mhd file.
        force: Accept a file that this tool has made.

    Raises:
        SeriesError: If the file is damaged, has more than three axes, or does not hold real numbers.
    """
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise SeriesError(f"{shown(path)}: not readable as {path.suffix}; check the file") from error
    _require_ct(path, reader, force=force)
    geometry = _geometry(reader)
    require_invertible(path, geometry.affine)
    try:
        read_plane = _streamed(reader) if _streams(path) else _in_memory(reader)
    except RuntimeError as error:
        raise SeriesError(f"{shown(path)}: voxels cannot be read, the file is cut short or corrupt") from error
    integer = "integer" in sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    source = RasterSlices(read_plane, geometry, integer=integer, header=_compressed(path))
    return raster_volume(path, source, geometry, source_format="itk")


def _require_ct(path: Path, reader: Any, *, force: bool) -> None:
    size = reader.GetSize()
    if len(size) not in (2, 3) or 0 in size:
        raise SeriesError(f"{shown(path)}: has the shape {size}; a CT has two or three axes: extract one volume")
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    if reader.GetNumberOfComponents() != 1 or not ("integer" in pixel or "float" in pixel) or "complex" in pixel:
        raise SeriesError(f"{shown(path)}: holds {pixel} voxels; HU are real numbers, one a voxel")
    made_by_us = any(
        reader.HasMetaDataKey(key) and reader.GetMetaData(key).startswith(f"{TOOL} ") for key in _DERIVED_KEYS
    )
    if made_by_us and not force:
        raise SeriesError(f"{shown(path)}: was made by qdm-med; give the original or use --force")


def _geometry(reader: Any) -> Geometry:
    columns, rows, slices = (*reader.GetSize(), 1)[:3]
    axes = len(reader.GetSize())
    directions = np.eye(3)  # one column an axis
    directions[:axes, :axes] = np.array(reader.GetDirection()).reshape(axes, axes) * np.array(reader.GetSpacing())
    affine = np.eye(4)
    affine[:3, :3] = directions[:, ::-1]  # ITK counts (column, row, slice)
    affine[:axes, 3] = reader.GetOrigin()
    return Geometry((slices, rows, columns), affine)


def _text_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).lower()


def _compressed(path: Path) -> bool:
    header = _text_header(path)
    return b"compresseddata = true" in header or b"encoding: gz" in header


def _streams(path: Path) -> bool:
    return path.suffix.lower() in META_SUFFIXES and not _compressed(path)


def _streamed(reader: Any) -> ReadPlane:
    columns, rows, *third = reader.GetSize()

    def read_plane(index: int) -> NDArray[Any]:
        reader.SetExtractIndex([0, 0, *(index for _ in third)])
        reader.SetExtractSize([columns, rows, *(1 for _ in third)])
        plane: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        return plane.reshape(rows, columns)

    return read_plane


def _in_memory(reader: Any) -> ReadPlane:
    columns, rows = reader.GetSize()[:2]
    voxels: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute()).reshape(-1, rows, columns)
    return lambda index: voxels[index]


class ItkWriter(RasterWriter):
    """Writes an NRRD or MetaImage file; NRRD is compressed if the source was.

    See :class:`qdm_med.io.raster.base.RasterWriter`.
    """

    def __init__(
        self, volume: Volume, out: Path, derivation: Derivation, *, overwrite: bool = False, spread: bool = False
    ) -> None:
        self._is_nrrd = out.name.lower().endswith(NRRD_SUFFIXES)
        super().__init__(volume, out, derivation, suffixes=OUTPUT_SUFFIXES, overwrite=overwrite, spread=spread)

    def _compressed(self) -> bool:
        # MetaImage needs the compressed size in its header, before the voxels: not written in one pass.
        return self._is_nrrd and bool(self._source.header)

    def _plain_header(self) -> bytes:
        lines = self._nrrd_header() if self._is_nrrd else self._meta_header()
        return "\n".join(lines).encode("ascii") + b"\n"

    def _nrrd_header(self) -> list[str]:
        axes = self.geometry.affine[:3, 2::-1].T
        return [
            "NRRD0004",
            f"type: {'short' if self.integer else 'float'}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {_spaced(self.geometry.shape[::-1])}",
            f"space directions: {' '.join(_vector(axis) for axis in axes)}",
            "kinds: domain domain domain",
            "endian: little",
            f"encoding: {'gzip' if self._compressed() else 'raw'}",
            f"space origin: {_vector(self.geometry.affine[:3, 3])}",
            f"{TOOL}:={self.derivation.description()}",
            "",
        ]

    def _meta_header(self) -> list[str]:
        axes = self.geometry.affine[:3, 2::-1].T
        spacing = np.linalg.norm(axes, axis=1)
        return [
            "ObjectType = Image",
            "NDims = 3",
            f"{_META_KEY} = {self.derivation.description()}",
            "BinaryData = True",
            "BinaryDataByteOrderMSB = False",
            "CompressedData = False",
            f"TransformMatrix = {_spaced((axes / spacing[:, None]).ravel())}",
            f"Offset = {_spaced(self.geometry.affine[:3, 3])}",
            f"ElementSpacing = {_spaced(spacing)}",
            f"DimSize = {_spaced(self.geometry.shape[::-1])}",
            f"ElementType = {'MET_SHORT' if self.integer else 'MET_FLOAT'}",
            "ElementDataFile = LOCAL",
        ]


def _spaced(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(repr(number) for number in np.asarray(numbers).tolist())


def _vector(numbers: NDArray[np.float64]) -> str:
    return f"({','.join(repr(number) for number in numbers.tolist())})"
