"""The front door: a path in, a volume out."""

from __future__ import annotations

from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import Content, shown, sniff
from qdm_med.io.dicom.reader import DicomSlices, read_dicom_series
from qdm_med.io.raster.itk import ITK_SUFFIXES, read_itk
from qdm_med.io.raster.nifti import NIFTI_SUFFIXES, read_nifti
from qdm_med.volume import Volume


def read_volume(
    path: Path,
    *,
    series_uid: str | None = None,
    exclude: Path | None = None,
    force: bool = False,
    skip_bad: bool = False,
    axis: int | None = None,
) -> Volume:
    """Read a CT volume; its slices are read when they are asked for.

    Args:
        path: A folder or file of DICOM, or a NIfTI (.nii, .nii.gz), NRRD (.nrrd) or MetaImage (.mha, .mhd) file.
        series_uid: SeriesInstanceUID, if a folder holds several CT series.
        exclude: An output that may lie inside the folder and is no input.
        force: Accept what this tool has made itself.
        skip_bad: Leave out DICOM slices that cannot be read; a warning says how many.
        axis: Axis of a volume file along which its slices lie; ``None``: by spacing and orientation.

    Raises:
        SeriesError: If there is nothing there that can be read faithfully.
    """
    if not path.exists():
        raise SeriesError(f"{shown(path)}: no such file or folder; check --series")
    name = path.name.lower()
    if path.is_dir() or sniff(path) is Content.DICOM:
        return read_dicom_series(path, series_uid=series_uid, exclude=exclude, force=force, skip_bad=skip_bad)
    if name.endswith(NIFTI_SUFFIXES):
        return read_nifti(path, force=force, axis=axis)
    if name.endswith(ITK_SUFFIXES):
        return read_itk(path, force=force, axis=axis)
    raise SeriesError(
        f"{shown(path)}: neither DICOM nor {', '.join((*NIFTI_SUFFIXES, *ITK_SUFFIXES))}; unpack archives first"
    )


def slice_thickness_mm(volume: Volume) -> tuple[float, ...]:
    """Slice thicknesses that occur in a volume, in mm; where the format has none, the distance between slices."""
    if isinstance(volume.slices, DicomSlices):
        return volume.slices.thickness_mm()
    return (volume.geometry.spacing[0],)
