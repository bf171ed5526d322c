"""NIfTI files: RAS millimetres there, LPS millimetres here; this file alone converts between them.

The array axes of the file are (column, row, slice). Its place comes from the sform if its code is positive, else
from the qform, else from the voxel sizes alone, which is the order that the NIfTI-1 standard gives.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel.nifti1 import Nifti1Extension, Nifti1Header, Nifti1Image
from nibabel.nifti2 import Nifti2Header, Nifti2Image
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.raster.axes import USUAL, choose_axes
from qdm_med.io.raster.base import RasterSlices, RasterWriter, ReadPlane, raster_volume, require_invertible
from qdm_med.io.raster.suffix import require_honest_suffix
from qdm_med.volume import Geometry, Volume, subpixel_centre

NIFTI_SUFFIXES = (".nii", ".nii.gz")
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
QUATERNION_ROUNDING = 1e-6
"""Excess of a quaternion's length over 1 that is rounding of its 32-bit numbers."""
_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
"""Millimetres of a unit of length; files that name none are in millimetres."""
SCANNER = 1
"""Code of a place in the coordinates of the scanner."""
_COMMENT = "comment"


def read_nifti(path: Path, *, force: bool = False, axis: int | None = None, hu_offset: float = 0.0) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file of Hounsfield units, slice by slice; a plane is a volume of one slice.

    ``scl_slope`` and ``scl_inter`` are applied; voxels that are not finite count as padding. Files whose slices do not lie
    along their last axis are held in memory.

    Args:
        path: A .nii or .nii.gz file.
        force: Accept a file that this tool has made.
        axis: Axis of the file along which the slices lie; ``None``: by spacing and orientation.
        hu_offset: Added to every value.

    Raises:
        SeriesError: If the file is damaged, has more than three axes, or does not hold real numbers.
    """
    require_honest_suffix(path)
    try:
        image = _load(path)
        header, affine = image.header, np.array(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel met arbitrary bytes
        raise SeriesError(f"{shown(path)}: no NIfTI file ({type(error).__name__}); check the file") from error
    _require_ct(path, image, force=force)
    sizes = (*image.shape, 1)[:3]
    affine[:3] *= _MM[header.get_xyzt_units()[0]]
    require_invertible(path, affine)
    axes, odd = choose_axes(sizes, affine, axis)
    geometry = Geometry((sizes[axes[0]], sizes[axes[1]], sizes[axes[2]]), (RAS_TO_LPS @ affine)[:, [*axes, 3]])
    read_plane = _from_file(image) if axes == USUAL else _from_memory(image, axes[0])
    source = RasterSlices(read_plane, geometry, integer=_holds_integers(image), header=header, axes=axes)
    told = (*_warnings(header), *([odd] if odd else []))
    return raster_volume(path, source, geometry, source_format="nifti", warnings=told, hu_offset=hu_offset)


class _ShortQuaternion:
    """Header that normalises a quaternion longer than 1, as rounding or careless writers leave it."""

    def get_qform_quaternion(self) -> NDArray[np.float64]:
        vector = np.array([self[f"quatern_{name}"] for name in "bcd"], dtype=np.float64)  # type: ignore[index]
        length = float(np.linalg.norm(vector))
        if length > 1:
            return np.array([0.0, *(vector / length)])
        quaternion: NDArray[np.float64] = super().get_qform_quaternion()  # type: ignore[misc]
        return quaternion


class _Header1(_ShortQuaternion, Nifti1Header):  # type: ignore[misc]
    """Header of NIfTI-1."""


class _Header2(_ShortQuaternion, Nifti2Header):  # type: ignore[misc]
    """Header of NIfTI-2."""


class _Image1(Nifti1Image):  # type: ignore[misc]
    """NIfTI-1 with that header."""

    header_class = _Header1


class _Image2(Nifti2Image):  # type: ignore[misc]
    """NIfTI-2 with that header."""

    header_class = _Header2


def _load(path: Path) -> Any:
    sniffed = None
    for kind in (_Image1, _Image2):
        known, sniffed = kind.path_maybe_image(path, sniffed)
        if known:
            # A compressed file stays open, so that reading on does not decompress it from its beginning.
            return kind.from_filename(path, keep_file_open=path.suffix.lower() == ".gz")
    raise ValueError("neither NIfTI-1 nor NIfTI-2 in one file")


def _from_file(image: Any) -> ReadPlane:
    further_axes = len(image.shape) - 3

    def read_plane(index: int) -> NDArray[Any]:
        chosen = (index, *(0,) * further_axes) if further_axes >= 0 else ()
        plane: NDArray[Any] = np.asarray(image.dataobj[(slice(None), slice(None), *chosen)]).T
        return plane

    return read_plane


def _from_memory(image: Any, axis: int) -> ReadPlane:
    voxels: list[NDArray[Any]] = []  # read when the first plane is asked for, where damage is told by name

    def read_plane(index: int) -> NDArray[Any]:
        if not voxels:
            read = np.asarray(image.dataobj).reshape(image.shape[:3])
            voxels.append(np.moveaxis(read.astype(np.float32) if read.dtype == np.float64 else read, axis, 0))
        return voxels[0][index].T

    return read_plane


def _require_ct(path: Path, image: Any, *, force: bool) -> None:
    header, shape = image.header, image.shape
    if len(shape) < 2 or any(side != 1 for side in shape[3:]) or 0 in shape:
        raise SeriesError(f"{shown(path)}: has the shape {shape}; a CT has two or three axes: extract one volume")
    if header.get_data_dtype().kind not in "iuf":
        raise SeriesError(f"{shown(path)}: holds {header.get_data_dtype()} voxels; HU are real numbers")
    if header.get_xyzt_units()[0] not in _MM:
        raise SeriesError(f"{shown(path)}: its unit of length is unknown to NIfTI; repair xyzt_units in the header")
    if bytes(header["descrip"].tobytes()).startswith(f"{TOOL} ".encode()) and not force:
        raise SeriesError(f"{shown(path)}: was made by qdm-med; give the original or use --force")


def _holds_integers(image: Any) -> bool:
    # The header of a loaded image no longer knows the scaling: nibabel hands it to the array.
    integer_scale = image.dataobj.slope == 1 and float(image.dataobj.inter).is_integer()
    return image.header.get_data_dtype().kind in "iu" and integer_scale


def _warnings(header: Any) -> tuple[str, ...]:
    sform, sform_code = header.get_sform(coded=True)
    qform, qform_code = header.get_qform(coded=True)
    if not sform_code and not qform_code:
        return ("neither sform nor qform: the place in the patient is unknown, only voxel sizes are used",)
    length = float(np.linalg.norm([header[f"quatern_{name}"] for name in "bcd"]))
    if qform_code and length > 1 + QUATERNION_ROUNDING:
        used = "the sform is used" if sform_code else "it is normalised"
        return (f"the quaternion of the qform has the length {length:.7g}, not 1: {used}",)
    if sform_code and qform_code and not np.allclose(sform, qform, atol=1e-2):
        apart = float(np.abs(sform - qform).max())
        return (f"sform and qform disagree by up to {apart:g} mm: the sform is used",)
    return ()


class NiftiWriter(RasterWriter):
    """Writer of NIfTI files with the source's header: shape, voxel size, origin and description are new.

    See :class:`qdm_med.io.raster.base.RasterWriter`.
    """

    def __init__(
        self, volume: Volume, out: Path, derivation: Derivation, *, overwrite: bool = False, spread: bool = False
    ) -> None:
        super().__init__(volume, out, derivation, suffixes=NIFTI_SUFFIXES, overwrite=overwrite, spread=spread)
        try:
            source = self._source.header
            if not isinstance(source, Nifti1Header):  # of another format, or none
                source = self._header_of(volume.geometry)
            self._header = _derived_header(source, self.in_file_order(self.geometry.shape), self.dtype, derivation)
        except Exception as error:  # nibabel refuses sides over 32767 and whatever else does not fit its fields
            self._job.remove()
            raise SeriesError(f"{shown(out)}: the NIfTI header cannot hold the output ({error})") from error

    def _header_of(self, geometry: Geometry) -> Nifti1Header:
        """Make a header for the grid of a source that is no NIfTI file."""
        header = Nifti1Header()
        header.set_data_shape(self.in_file_order(geometry.shape))
        affine = np.eye(4)
        affine[:3, :3] = np.stack(self.in_file_order(geometry.affine[:3, :3].T), axis=1)
        affine[:3, 3] = geometry.affine[:3, 3]
        affine = RAS_TO_LPS @ affine  # the turn is its own inverse
        spacing = np.linalg.norm(affine[:3, :3], axis=0)
        header.set_zooms(spacing.tolist())
        header.set_xyzt_units("mm")
        header.set_sform(affine, SCANNER)
        directions = affine[:3, :3] / spacing
        if np.allclose(directions.T @ directions, np.eye(3), atol=1e-4):  # a quaternion cannot hold a tilted gantry
            header.set_qform(affine, SCANNER)
        return header

    def _compressed(self) -> bool:
        return self.out.name.lower().endswith(".gz")

    def _plain_header(self) -> bytes:
        return b"" if self._compressed() else self._header

    def _packed_header(self) -> bytes:
        return self._header


def _derived_header(source: Any, sizes: Sequence[int], dtype: np.dtype[Any], derivation: Derivation) -> bytes:
    """Derive the source's header for the new grid, up to the first voxel."""
    header = source.as_byteswapped("<")
    # The source's extensions are not taken over: they may describe the old grid, and nobody can tell.
    header.extensions = type(source.extensions)([Nifti1Extension(_COMMENT, derivation.description().encode())])
    header.set_data_shape(sizes)
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = derivation.description()[:79].encode()
    _refine_grid(header, source, sizes)
    header["vox_offset"] = 0  # computed from the extensions when it is written
    buffer = io.BytesIO()
    header.write_to(buffer)
    return buffer.getvalue()


def _refine_grid(header: Any, source: Any, sizes: Sequence[int]) -> None:
    finer = np.array(sizes) / (*source.get_data_shape(), 1)[:3]  # new voxels an old one, along the axes of the file
    to_coarse = np.diag([*(1 / finer), 1.0])
    to_coarse[:3, 3] = [subpixel_centre(factor) for factor in finer]
    header.set_zooms((np.array((*source.get_zooms(), 1.0)[:3]) / finer).tolist())
    for get, put in ((source.get_qform, header.set_qform), (source.get_sform, header.set_sform)):
        affine, code = get(coded=True)
        if code:
            put(affine @ to_coarse, int(code))
