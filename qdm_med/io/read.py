"""The front door: a path in, a volume out."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import Content, shown, sniff
from qdm_med.io.dicom.reader import DicomSlices, read_dicom_series
from qdm_med.io.raster.itk import ITK_SUFFIXES, read_itk
from qdm_med.io.raster.nifti import NIFTI_SUFFIXES, read_nifti
from qdm_med.io.unpack import unpack
from qdm_med.io.walk import walk_files
from qdm_med.volume import Volume

VOLUME_SUFFIXES = (*NIFTI_SUFFIXES, *ITK_SUFFIXES)
"""Names of files that hold a whole volume."""


def read_volume(
    path: Path,
    *,
    series_uid: str | None = None,
    exclude: Path | None = None,
    force: bool = False,
    skip_bad: bool = False,
    axis: int | None = None,
    hu_offset: float = 0.0,
    rescale_type_is_hu: bool = False,
) -> Volume:
    """Read a CT volume, whose slices are read when they are asked for.

    Args:
        path: A folder or file of DICOM, or a NIfTI (.nii, .nii.gz), NRRD (.nrrd) or MetaImage (.mha, .mhd) file, or a zip
            archive that holds a series or one such file.
        series_uid: SeriesInstanceUID, if a folder holds several CT series.
        exclude: An output that may lie inside the folder and is no input.
        force: Accept what this tool has made itself.
        skip_bad: Leave out DICOM slices that cannot be read; a warning says how many.
        axis: Axis of a volume file along which its slices lie; ``None``: by spacing and orientation.
        hu_offset: Added to every value, for files whose values are HU but for a constant.
        rescale_type_is_hu: DICOM only: values are HU, whatever RescaleType says.

    Raises:
        SeriesError: If there is nothing there that can be read faithfully.
    """
    if not path.exists():
        raise SeriesError(f"{shown(path)}: no such file or folder; check --series")
    name = path.name.lower()
    content = Content.OTHER if path.is_dir() else sniff(path)
    if path.is_dir() or content is Content.DICOM:
        return read_dicom_series(
            path,
            series_uid=series_uid,
            exclude=exclude,
            force=force,
            skip_bad=skip_bad,
            hu_offset=hu_offset,
            rescale_type_is_hu=rescale_type_is_hu,
        )
    if name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path, force=force, axis=axis, hu_offset=hu_offset)
    if name.endswith(ITK_SUFFIXES):
        return read_itk(path, force=force, axis=axis, hu_offset=hu_offset)
    if content is Content.ARCHIVE:
        options = {"series_uid": series_uid, "force": force, "skip_bad": skip_bad, "axis": axis}
        return _read_zip(path, {**options, "hu_offset": hu_offset, "rescale_type_is_hu": rescale_type_is_hu})
    raise SeriesError(f"{shown(path)}: neither DICOM nor {', '.join(VOLUME_SUFFIXES)} nor a zip archive of them")


def _read_zip(path: Path, options: dict[str, Any]) -> Volume:
    """Read a volume from an archive, unpacked into a temporary folder for as long as the volume's slices live."""
    folder = tempfile.mkdtemp(prefix="qdm-med-")
    try:
        unpack(path, Path(folder, "zip"))
        inside = [each for each in walk_files(Path(folder, "zip")) if each.name.lower().endswith(VOLUME_SUFFIXES)]
        if len(inside) == 1:
            volume = read_volume(inside[0], **options)
            volume = replace(volume, provenance=replace(volume.provenance, files=(path,)))
        else:
            volume = read_volume(Path(folder, "zip"), **options)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(volume.slices, shutil.rmtree, folder, ignore_errors=True)
    return volume


def slice_thickness_mm(volume: Volume) -> tuple[float, ...]:
    """Slice thicknesses of a volume in mm; where the format has none, the distance between slices."""
    if isinstance(volume.slices, DicomSlices):
        return volume.slices.thickness_mm()
    return (volume.geometry.spacing[0],)
