# mypy: disable-error-code="no-untyped-call"
# SimpleITK says that it is typed, but its functions carry no annotations.
"""NRRD and MetaImage files, read through SimpleITK, which gives LPS millimetres for both.

Memory: an uncompressed MetaImage is read slice by slice; of other files SimpleITK reads everything at once, and
the voxels then stay in memory in the type of the file. Writing needs the memory of one slice: both formats are a
short text header and the voxels, put together here.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - its own manual calls it so
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.raster.axes import USUAL, choose_axes
from qdm_med.io.raster.base import RasterSlices, RasterWriter, ReadPlane, raster_volume, require_invertible
from qdm_med.io.raster.suffix import require_plain_header
from qdm_med.volume import Geometry, Volume

META_SUFFIXES = (".mha", ".mhd")
NRRD_SUFFIXES = (".nrrd", ".nhdr")
ITK_SUFFIXES = (*NRRD_SUFFIXES, *META_SUFFIXES)
OUTPUT_SUFFIXES = (".nrrd", ".mha")
"""Suffixes of outputs: files that hold their voxels themselves, so that they appear at once."""
_META_KEY = "qdm_med"
"""Own field of a MetaImage; its standard Comment does not reach a reader."""
_NRRD_TYPES = {"<i2": "short", "<i4": "int", "<f4": "float"}
_META_TYPES = {"<i2": "MET_SHORT", "<i4": "MET_INT", "<f4": "MET_FLOAT"}
_DERIVED_KEYS = (TOOL, _META_KEY)


def read_itk(path: Path, *, force: bool = False, axis: int | None = None, hu_offset: float = 0.0) -> Volume:
    """Read an NRRD or MetaImage file of Hounsfield units; a plane is a volume of one slice.

    Args:
        path: A .nrrd, .mha or .mhd file.
        force: Accept a file that this tool has made.
        axis: Axis of the file along which the slices lie; ``None``: by spacing and orientation.
        hu_offset: Added to every value.

    Raises:
        SeriesError: If the file is damaged, has more than three axes, or does not hold real numbers.
    """
    require_plain_header(path)
    reader = sitk.ImageFileReader()
    name = FileName(path)
    reader.SetFileName(name.plain)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise SeriesError(f"{shown(path)}: not readable as {path.suffix}; check the file") from error
    _require_ct(path, reader, force=force)
    sizes, affine = _grid(reader)
    require_invertible(path, affine)
    axes, odd = choose_axes(sizes, affine, axis)
    geometry = Geometry((sizes[axes[0]], sizes[axes[1]], sizes[axes[2]]), affine[:, [*axes, 3]])
    try:
        streams = _streams(path) and axes == USUAL
        read_plane = _streamed(reader, name) if streams else _in_memory(reader, axes[0])
    except RuntimeError as error:
        raise SeriesError(f"{shown(path)}: voxels cannot be read, the file is cut short or corrupt") from error
    integer = "integer" in sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    source = RasterSlices(read_plane, geometry, integer=integer, header=_compressed(path), axes=axes)
    told = (odd,) if odd else ()
    return raster_volume(path, source, geometry, source_format="itk", warnings=told, hu_offset=hu_offset)


class FileName:
    """A name that SimpleITK can open: inside it, names that are not UTF-8 would end the process.

    Attributes:
        plain: The name, or that of a link to the file, which lives as long as this object.
    """

    def __init__(self, path: Path) -> None:
        self.plain = str(path)
        try:
            self.plain.encode()
        except UnicodeEncodeError:
            self.plain = self._link(path)

    def _link(self, path: Path) -> str:
        suffix = path.suffix.lower()
        if suffix not in OUTPUT_SUFFIXES:  # its voxels are in another file, which would be looked for beside the link
            raise SeriesError(f"{shown(path)}: its name is not UTF-8; rename it")
        folder = tempfile.mkdtemp(prefix="qdm-med-")
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        try:
            link = Path(folder, f"volume{suffix}")
            link.symlink_to(path.resolve())
            str(link).encode()
        except (OSError, UnicodeEncodeError):
            raise SeriesError(f"{shown(path)}: its name is not UTF-8; rename it") from None
        return str(link)


def _require_ct(path: Path, reader: Any, *, force: bool) -> None:
    size = reader.GetSize()
    if len(size) < 2 or 0 in size or any(side != 1 for side in size[3:]):
        raise SeriesError(f"{shown(path)}: has the shape {size}; a CT has two or three axes: extract one volume")
    pixel = sitk.GetPixelIDValueAsString(reader.GetPixelIDValue())
    if reader.GetNumberOfComponents() != 1 or not ("integer" in pixel or "float" in pixel) or "complex" in pixel:
        raise SeriesError(f"{shown(path)}: holds {pixel} voxels; HU are real numbers, one a voxel")
    made_by_us = any(
        reader.HasMetaDataKey(key) and reader.GetMetaData(key).startswith(f"{TOOL} ") for key in _DERIVED_KEYS
    )
    if made_by_us and not force:
        raise SeriesError(f"{shown(path)}: was made by qdm-med; give the original or use --force")


def _grid(reader: Any) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Sizes along the axes of the file, and the ``(4, 4)`` affine from their indices to LPS mm."""
    columns, rows, slices = (*reader.GetSize(), 1)[:3]
    axes = len(reader.GetSize())
    told = min(axes, 3)
    directions = np.array(reader.GetDirection()).reshape(axes, axes) * np.array(reader.GetSpacing())  # a column an axis
    affine = np.eye(4)
    affine[:told, :told] = directions[:told, :told]
    affine[:told, 3] = reader.GetOrigin()[:told]
    return (columns, rows, slices), affine


def _text_header(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4096).lower()


def _compressed(path: Path) -> bool:
    header = _text_header(path)
    return b"compresseddata = true" in header or b"encoding: gz" in header


def _streams(path: Path) -> bool:
    return path.suffix.lower() in META_SUFFIXES and not _compressed(path)


def _streamed(reader: Any, name: FileName) -> ReadPlane:
    columns, rows, *further = reader.GetSize()

    def read_plane(index: int) -> NDArray[Any]:
        reader.SetFileName(name.plain)  # and the link behind it lives as long as this function
        reader.SetExtractIndex([0, 0, *([index, 0, 0][: len(further)])])
        reader.SetExtractSize([columns, rows, *(1 for _ in further)])
        plane: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        return plane.reshape(rows, columns)

    return read_plane


def _in_memory(reader: Any, axis: int) -> ReadPlane:
    columns, rows, slices = (*reader.GetSize(), 1)[:3]
    voxels: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute()).reshape(slices, rows, columns)
    planes = np.moveaxis(voxels, 2 - axis, 0)  # NumPy counts the axes of ITK from the other end
    return lambda index: planes[index]


class ItkWriter(RasterWriter):
    """Writer of NRRD and MetaImage files; NRRD is compressed if the source was.

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

    def _directions(self) -> NDArray[np.float64]:
        """Steps along the axes of the file in LPS mm, ``(3, 3)``, a row an axis."""
        return np.stack(self.in_file_order(self.geometry.affine[:3, :3].T))

    def _nrrd_header(self) -> list[str]:
        axes = self._directions()
        return [
            "NRRD0004",
            f"type: {_NRRD_TYPES[self.dtype.str]}",
            "dimension: 3",
            "space: left-posterior-superior",
            f"sizes: {_spaced(self.in_file_order(self.geometry.shape))}",
            f"space directions: {' '.join(_vector(axis) for axis in axes)}",
            "kinds: domain domain domain",
            "endian: little",
            f"encoding: {'gzip' if self._compressed() else 'raw'}",
            f"space origin: {_vector(self.geometry.affine[:3, 3])}",
            f"{TOOL}:={self.derivation.description()}",
            "",
        ]

    def _meta_header(self) -> list[str]:
        axes = self._directions()
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
            f"DimSize = {_spaced(self.in_file_order(self.geometry.shape))}",
            f"ElementType = {_META_TYPES[self.dtype.str]}",
            "ElementDataFile = LOCAL",
        ]


def _spaced(numbers: Sequence[float] | NDArray[np.float64]) -> str:
    return " ".join(repr(number) for number in np.asarray(numbers).tolist())


def _vector(numbers: NDArray[np.float64]) -> str:
    return f"({','.join(repr(number) for number in numbers.tolist())})"
