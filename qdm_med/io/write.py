"""The back door: a writer that puts a super-resolved volume into the format of its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.dicom.derived_series import DerivedSeriesWriter
from qdm_med.io.dicom.file import shown
from qdm_med.io.options import DEFAULTS, WriterOptions
from qdm_med.io.output.writer import ResumableWriter
from qdm_med.io.raster.base import RasterSlices
from qdm_med.io.raster.foreign import ForeignSlices
from qdm_med.io.raster.itk import ITK_SUFFIXES, OUTPUT_SUFFIXES, ItkWriter
from qdm_med.io.raster.nifti import NIFTI_SUFFIXES, NiftiWriter
from qdm_med.uncertainty import NOT_CALIBRATED
from qdm_med.volume import Volume


def open_writer(
    volume: Volume, out: Path, derivation: Derivation, options: WriterOptions = DEFAULTS
) -> ResumableWriter:
    """Open a writer of the format that the suffix of ``out`` names, else of the one that ``volume`` was read from.

    Args:
        volume: The source.
        out: Folder (DICOM) or file to create. A DICOM series can become a volume file, not the other way round.
        derivation: Record of how the pixels are computed.
        options: Options of the output.

    Raises:
        SeriesError: If the output cannot be made from this source or in this place.
        ConfigError: If an encoder that is asked for is not installed.
    """
    source_format = volume.provenance.source_format
    name = out.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return NiftiWriter(_for_a_file(volume), out, derivation, overwrite=options.overwrite)
    if name.endswith(ITK_SUFFIXES):
        return ItkWriter(_for_a_file(volume), out, derivation, overwrite=options.overwrite)
    if source_format == "dicom":
        return DerivedSeriesWriter(volume, out, derivation, options)
    if source_format in ("nifti", "itk"):
        known = " or ".join((*NIFTI_SUFFIXES, *OUTPUT_SUFFIXES))
        raise SeriesError(f"{shown(out)}: must end in {known}: a volume file cannot become a DICOM series")
    raise SeriesError(
        f"a volume from {source_format} has no file format; name the output {' or '.join(NIFTI_SUFFIXES)}"
    )


def _for_a_file(volume: Volume) -> Volume:
    """Present a volume as a volume file would hold it."""
    return volume if isinstance(volume.slices, RasterSlices) else replace(volume, slices=ForeignSlices(volume))


def open_uncertainty_writer(
    volume: Volume,
    series: ResumableWriter,
    derivation: Derivation,
    *,
    calibration: str = NOT_CALIBRATED,
    overwrite: bool = False,
) -> ResumableWriter:
    """Open a writer for the standard deviation, in HU, of the samples behind a series.

    A DICOM series gets Parametric Maps, a volume file gets another of its format with float32 voxels.

    Args:
        volume: The source.
        series: Writer of the series itself, whose place and UIDs the map goes by.
        derivation: Record of how the pixels of the series are computed.
        calibration: Description of the calibration of the standard deviation.
        overwrite: Replace an output that is there.

    Raises:
        SeriesError: If the output cannot be made from this source or in this place.
    """
    stated = derivation.of_spread(calibration)
    if isinstance(series, DerivedSeriesWriter):
        from qdm_med.io.dicom.parametric_map import (
            ParametricMapWriter,  # highdicom: a tenth of a second, for this alone
        )

        return ParametricMapWriter(series, uncertainty_output(series.out), stated, overwrite=overwrite)
    if isinstance(series, NiftiWriter):
        return NiftiWriter(series.volume, uncertainty_output(series.out), stated, overwrite=overwrite, spread=True)
    if isinstance(series, ItkWriter):
        return ItkWriter(series.volume, uncertainty_output(series.out), stated, overwrite=overwrite, spread=True)
    raise SeriesError(f"uncertainty of a volume from {volume.provenance.source_format} has no file format")


def uncertainty_output(out: Path) -> Path:
    """Path of an output's uncertainty, beside the output.

    >>> uncertainty_output(Path("fine/head.nii.gz")).name
    'head-uncertainty.nii.gz'
    >>> uncertainty_output(Path("fine/head.v2")).name
    'head.v2-uncertainty'
    """
    end = len(out.name) - len(_volume_suffix(out.name))
    return out.with_name(f"{out.name[:end]}-uncertainty{out.name[end:]}")


def _volume_suffix(name: str) -> str:
    """Suffix of a volume file, in lower case; empty for other names."""
    return next((s for s in (*NIFTI_SUFFIXES, *ITK_SUFFIXES) if name.lower().endswith(s)), "")


def default_output(series: Path, scale: int) -> Path:
    """Path of the output if none is given: beside the input, named after it.

    >>> default_output(Path("scans/head.nii.gz"), 8).name
    'head-srx8.nii.gz'
    >>> default_output(Path("scans/head"), 4).name
    'head-srx4'
    """
    place = series.resolve()
    name = place.name or "series"
    if place.is_dir():
        return place.with_name(f"{name}-srx{scale}")
    suffix = _volume_suffix(name)
    if not suffix:
        return place.with_name(f"{name.removesuffix('.dcm')}-srx{scale}")
    written = {".nhdr": ".nrrd", ".mhd": ".mha"}.get(suffix, suffix)  # formats in two files become their one-file form
    return place.with_name(f"{name[: -len(suffix)]}-srx{scale}{written}")
