"""NRRD and MetaImage files to volumes and back, through SimpleITK.

ITK indices are ``(x, y, z)``, x fastest, and its places are LPS mm: row = y, column = x, slice = z.
"""

# mypy: disable-error-code="no-untyped-call"
# SimpleITK ships types without annotations.

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813  # its own manual calls it so
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.planes import READ_ERRORS, PlaneSlices, check_invertible, grid_key
from qdm_med.io.single_file import SingleFileWriter, VoxelCoding
from qdm_med.volume import Geometry, Provenance, Volume

SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
"""Names of the files that are read here."""

OUTPUT_SUFFIXES = (".nrrd", ".mha")
"""Names of the files that are written here; the others keep their pixels in a second file."""

_SIGNED = frozenset((sitk.sitkInt8, sitk.sitkInt16, sitk.sitkInt32, sitk.sitkInt64))
_UNSIGNED = frozenset((sitk.sitkUInt8, sitk.sitkUInt16, sitk.sitkUInt32, sitk.sitkUInt64))
_INTEGERS = _SIGNED | _UNSIGNED
_FLOATS = frozenset((sitk.sitkFloat32, sitk.sitkFloat64))


def read_itk(path: Path) -> Volume:
    """Open a NRRD or MetaImage file.

    Slices of an uncompressed MetaImage are read one by one when they are indexed. ITK can read the others only as a
    whole: the first slice that is indexed brings all of them into memory.

    Raises:
        SeriesError: If the file is damaged, is no single real-valued 2-D or 3-D image, or its affine is singular.
    """
    reader = _open(path)
    columns, rows, slices = (*reader.GetSize(), 1)[:3]
    affine = _lps_affine(reader)
    check_invertible(path, affine)
    geometry = Geometry((slices, rows, columns), affine)
    return Volume(
        slices=PlaneSlices(path, geometry, _ItkPlanes(reader, streams=_can_stream(path))),
        geometry=geometry,
        provenance=Provenance("itk", grid_key("itk", geometry), (path,)),
    )


class ItkWriter(SingleFileWriter):
    """Write a super-resolved volume as one ``.nrrd`` or ``.mha``; int16 if the source held integers, else float32.

    Slices wait on disk, but ITK writes a volume as a whole: :meth:`commit` takes the memory of the output volume.
    The source's key-value fields are not copied, they may name the patient; ``DerivationDescription`` is written.

    Args:
        volume: The source.
        out: File to create; must end in ``.nrrd`` or ``.mha``.
        derivation: Scale and model.
        overwrite: Replace ``out`` if it is there.

    Raises:
        SeriesError: If ``out`` cannot be written; nothing is then touched.
    """

    def __init__(self, volume: Volume, out: Path, derivation: Derivation, *, overwrite: bool = False) -> None:
        origin = volume.provenance.source_format
        integer = origin == "dicom" or (origin == "itk" and _holds_integers(volume.provenance.files[0]))
        coding = VoxelCoding(integer)
        super().__init__(volume, out, derivation, coding, suffixes=OUTPUT_SUFFIXES, overwrite=overwrite)

    def _join(self, temporary: Path) -> None:
        slices, rows, columns = self._geometry.shape
        image = sitk.Image((columns, rows, slices), sitk.sitkInt16 if self._coding.integer else sitk.sitkFloat32)
        for index in range(slices):
            image[:, :, index] = sitk.GetImageFromArray(self._partial.read_slice(index))
        spacing = self._geometry.spacing[::-1]
        image.SetSpacing(spacing)
        image.SetOrigin(self._geometry.affine[:3, 3].tolist())
        image.SetDirection((self._geometry.affine[:3, 2::-1] / spacing).ravel().tolist())
        image.SetMetaData("DerivationDescription", self._derivation.description())
        try:
            sitk.WriteImage(image, temporary)
        except RuntimeError as error:
            raise SeriesError(f"{self.out}: ITK cannot write it; free space or choose another output") from error


class _ItkPlanes:
    """Index -> ``(rows, columns)`` of a file."""

    def __init__(self, reader: sitk.ImageFileReader, *, streams: bool) -> None:
        self._reader = reader
        self._streams = streams
        self._whole: NDArray[Any] | None = None

    def __call__(self, index: int) -> NDArray[Any]:
        columns, rows, *slices = self._reader.GetSize()
        if self._streams and slices:
            self._reader.SetExtractIndex((0, 0, index))
            self._reader.SetExtractSize((columns, rows, 0))
            return sitk.GetArrayFromImage(self._reader.Execute())
        if self._whole is None:
            self._whole = sitk.GetArrayFromImage(self._reader.Execute()).reshape(-1, rows, columns)
        return self._whole[index]


def _open(path: Path) -> sitk.ImageFileReader:
    if not path.name.lower().endswith(SUFFIXES):
        raise SeriesError(f"{path}: expected a file of {', '.join(SUFFIXES)}; convert it first")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except READ_ERRORS as error:
        raise SeriesError(
            f"{path}: ITK cannot read it, the file is damaged or its grid is singular; check it"
        ) from error
    if reader.GetDimension() not in (2, 3):
        raise SeriesError(f"{path}: must be one 2-D or 3-D image, its shape is {reader.GetSize()}; extract one volume")
    if reader.GetNumberOfComponents() != 1 or reader.GetPixelID() not in _INTEGERS | _FLOATS:
        kind = sitk.GetPixelIDValueAsString(reader.GetPixelID())
        raise SeriesError(f"{path}: voxels must be real numbers (HU), got {kind}; convert them")
    return reader


def _lps_affine(reader: sitk.ImageFileReader) -> NDArray[np.float64]:
    """``(4, 4)`` affine ``(slice, row, column)`` -> LPS; a 2-D image lies in the plane z = 0."""
    dimension = reader.GetDimension()
    steps = np.eye(3)
    steps[:dimension, :dimension] = np.reshape(reader.GetDirection(), (dimension, dimension)) * reader.GetSpacing()
    affine = np.eye(4)
    affine[:3, :3] = steps[:, ::-1]
    affine[:dimension, 3] = reader.GetOrigin()
    return affine


def _can_stream(path: Path) -> bool:
    if path.suffix.lower() not in (".mha", ".mhd"):
        return False
    with path.open("rb") as file:
        fields = file.read(4096).replace(b" ", b"").lower()
    return b"compresseddata=true" not in fields


def _holds_integers(path: Path) -> bool:
    return _open(path).GetPixelID() in _INTEGERS
