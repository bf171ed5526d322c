"""NIfTI files: RAS millimetres there, LPS millimetres here; the turn is made in this file and nowhere else.

The array axes of the file are (column, row, slice). Its place comes from the sform if its code is positive, else
from the qform, else from the voxel sizes alone, which is the order that the NIfTI-1 standard gives.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.file import shown
from qdm_med.io.raster.base import RasterSlices, RasterWriter, raster_volume, require_invertible
from qdm_med.volume import Geometry, Volume, subpixel_centre

NIFTI_SUFFIXES = (".nii", ".nii.gz")
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_SLICE_ROW_COLUMN = [2, 1, 0, 3]
"""Columns of a NIfTI affine in the order of our indices."""
_MM = {"unknown": 1.0, "mm": 1.0, "meter": 1000.0, "micron": 0.001}
"""Millimetres of a unit of length; files that name none are in millimetres."""
_COMMENT = "comment"


def read_nifti(path: Path, *, force: bool = False) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 file of Hounsfield units, slice by slice; a plane is a volume of one slice.

    ``scl_slope`` and ``scl_inter`` are applied; voxels that are not finite count as padding.

    Args:
        path: A .nii or .nii.gz file.
        force: Accept a file that this tool has made.

    Raises:
        SeriesError: If the file is damaged, has more than three axes, or does not hold real numbers.
    """
    try:
        # A compressed file stays open, so that reading on does not decompress it from its beginning.
        image: Any = nibabel.load(path, keep_file_open=path.suffix == ".gz")
        header, affine = image.header, np.array(image.affine, dtype=np.float64)
    except Exception as error:  # nibabel met arbitrary bytes
        raise SeriesError(f"{shown(path)}: no NIfTI file ({type(error).__name__}); check the file") from error
    _require_ct(path, image, force=force)
    columns, rows, slices = (*image.shape, 1)[:3]
    affine[:3] *= _MM[header.get_xyzt_units()[0]]
    require_invertible(path, affine)
    geometry = Geometry((slices, rows, columns), (RAS_TO_LPS @ affine)[:, _SLICE_ROW_COLUMN])
    further_axes = len(image.shape) - 3

    def read_plane(index: int) -> NDArray[Any]:
        chosen = (index, *(0,) * further_axes) if further_axes >= 0 else ()
        plane: NDArray[Any] = np.asarray(image.dataobj[(slice(None), slice(None), *chosen)]).T
        return plane

    source = RasterSlices(read_plane, geometry, integer=_holds_integers(image), header=header)
    return raster_volume(path, source, geometry, source_format="nifti", warnings=_warnings(header))


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
    if sform_code and qform_code and not np.allclose(sform, qform, atol=1e-2):
        apart = float(np.abs(sform - qform).max())
        return (f"sform and qform disagree by up to {apart:g} mm: the sform is used",)
    return ()


class NiftiWriter(RasterWriter):
    """Writes a NIfTI file with the source's header: shape, voxel size, origin and description are new.

    See :class:`qdm_med.io.raster.base.RasterWriter`.
    """

    def __init__(
        self, volume: Volume, out: Path, derivation: Derivation, *, overwrite: bool = False, spread: bool = False
    ) -> None:
        super().__init__(volume, out, derivation, suffixes=NIFTI_SUFFIXES, overwrite=overwrite, spread=spread)
        try:
            self._header = _derived_header(self._source.header, self.geometry.shape, self.dtype, derivation)
        except Exception as error:  # nibabel refuses sides over 32767 and whatever else does not fit its fields
            self._job.remove()
            raise SeriesError(f"{shown(out)}: the NIfTI header cannot hold the output ({error})") from error

    def _compressed(self) -> bool:
        return self.out.name.lower().endswith(".gz")

    def _plain_header(self) -> bytes:
        return b"" if self._compressed() else self._header

    def _packed_header(self) -> bytes:
        return self._header


def _derived_header(source: Any, shape: tuple[int, int, int], dtype: np.dtype[Any], derivation: Derivation) -> bytes:
    """The source's header for the new grid, up to the first voxel."""
    header = source.as_byteswapped("<")
    # The source's extensions are not taken over: they may describe the old grid, and nobody can tell.
    header.extensions = type(source.extensions)([Nifti1Extension(_COMMENT, derivation.description().encode())])
    header.set_data_shape(shape[::-1])
    header.set_data_dtype(dtype)
    header.set_slope_inter(1.0, 0.0)
    header["descrip"] = derivation.description()[:79].encode()
    _refine_grid(header, source, derivation.scale)
    header["vox_offset"] = 0  # computed from the extensions when it is written
    buffer = io.BytesIO()
    header.write_to(buffer)
    return buffer.getvalue()


def _refine_grid(header: Any, source: Any, scale: int) -> None:
    to_coarse = np.diag([1 / scale, 1 / scale, 1.0, 1.0])
    to_coarse[:2, 3] = subpixel_centre(scale)
    column_size, row_size, slice_size = (*source.get_zooms(), 1.0)[:3]
    header.set_zooms((column_size / scale, row_size / scale, slice_size))
    for get, put in ((source.get_qform, header.set_qform), (source.get_sform, header.set_sform)):
        affine, code = get(coded=True)
        if code:
            put(affine @ to_coarse, int(code))
