"""Writer of a derived CT series, slice by slice; every file and the whole series appear at once or not at all."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pydicom
import pydicom.pixels
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID, ExplicitVRLittleEndian, HTJ2KLossless, JPEG2000Lossless, JPEGLSLossless, RLELossless

from qdm_med._version import __version__
from qdm_med.errors import ConfigError, QdmMedError, SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.derived_header import DerivedSeries, derive_header, free_series_number
from qdm_med.io.dicom.file import quiet, read_dataset, shown
from qdm_med.io.dicom.pixels import decode_stored
from qdm_med.io.dicom.reader import DicomSlices
from qdm_med.io.dicom.rescale import in_ranges, overwrite_blocks
from qdm_med.io.options import DEFAULTS, SyntaxName, WriterOptions
from qdm_med.io.output.place import check_folder, replace_folder
from qdm_med.io.output.writer import ResumableWriter
from qdm_med.volume import BoolArray, FloatArray, Volume

TRANSFER_SYNTAXES: Mapping[SyntaxName, UID] = {
    "explicit": ExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-2000": JPEG2000Lossless,
    "htj2k": HTJ2KLossless,
}
IMPLEMENTATION_CLASS_UID = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_DNS, 'qdm-med.dicom').int}")
"""Names this program in File Meta Information (PS3.10 7.1); the same in all its versions."""
LARGEST_SIDE = 65535
"""Rows and Columns are unsigned 16-bit numbers."""


class DerivedSeriesWriter(ResumableWriter):
    """Writer of the derived series of a DICOM volume, as single-frame CT images.

    Stored values are the nearest to the HU given, under the source slice's own rescale, clamped to its bits; the
    source's padding is repeated exactly and no other pixel takes a padding value.

    Args:
        volume: Volume from :func:`qdm_med.io.dicom.reader.read_dicom_series`.
        out: Folder to create. It may lie inside the input folder if the reader was told to exclude it.
        derivation: Record of how the pixels are computed.
        options: Options of the output.

    Raises:
        SeriesError: If the output cannot be made from this source or in this place; nothing is then written.
        ConfigError: If the encoder that is asked for is not installed.
    """

    def __init__(self, volume: Volume, out: Path, derivation: Derivation, options: WriterOptions = DEFAULTS) -> None:
        if not isinstance(volume.slices, DicomSlices):
            raise SeriesError(f"a DICOM series cannot be derived from {volume.provenance.source_format} input")
        self._source = volume.slices
        self._syntax = TRANSFER_SYNTAXES[options.transfer_syntax]
        slice_bytes = _slice_bytes(volume, derivation)
        place = partial(check_folder, out, volume.provenance.files, overwrite=options.overwrite)
        place()  # before the headers are derived, which takes a while
        number = free_series_number(
            self._source.headers[0].series_number, derivation.scale, self._source.series_numbers
        )
        own_frame, now = self._source.frames > 1, datetime.now(UTC)
        series = DerivedSeries(uuid.uuid4(), now, number, derivation, options.private, options.equipment, own_frame)
        _rehearse(self._source, series, self._syntax)
        super().__init__(
            volume,
            place,
            matrix=derivation.matrix_of(*volume.geometry.shape[1:]),
            key=_job_key(self._source, series, options.transfer_syntax),
            suffix="dcm",
            slice_bytes=slice_bytes,
        )
        self._series = replace(series, run=self._job.run, started=self._job.started)

    @property
    def series(self) -> DerivedSeries:
        """Values that all images share, their UIDs among them."""
        return self._series

    @property
    def taken_numbers(self) -> frozenset[int]:
        """Series Numbers of the study, this series' own among them."""
        return self._source.series_numbers | {self._series.number}

    def header(self, index: int) -> Dataset:
        """Header of an image as it is, or will be, written, without pixels and File Meta Information.

        Raises:
            SeriesError: If the source cannot be read any more.
        """
        told = self._source.headers[index]
        source = read_dataset(told.path)
        with quiet():
            return derive_header(source, self._series, index, told)

    def padding(self, index: int) -> BoolArray:
        """``(rows, columns)`` bool, where the source slice is padding."""
        return self._source[index].padding

    @quiet()
    def _write_slice(self, file: BinaryIO, index: int, hu: FloatArray) -> None:
        header = self._source.headers[index]
        source = read_dataset(header.path)
        stored = decode_stored(source, header.path)
        pixel_format = header.pixel_format()
        avoid = pixel_format.padding_ranges(stored)
        fine = pixel_format.to_stored(hu, avoid)
        overwrite_blocks(fine, stored, in_ranges(stored, avoid))
        derived = derive_header(source, self._series, index, header)
        _set_pixels(derived, fine.astype("<i2" if pixel_format.signed else "<u2"), self._syntax)
        pydicom.dcmwrite(file, derived, enforce_file_format=True)

    @quiet()
    def _put_in_place(self) -> None:
        for index in range(len(self.volume)):
            path = self.slice_path(index)
            written = read_dataset(path, tags=["SOPInstanceUID", "Rows"])
            if written.get("SOPInstanceUID") != self._series.instance_uid(index):
                raise SeriesError(f"{shown(path)}: is not the slice that was written; run again")
        replace_folder(self._job.slices, self.out)


@quiet()
def _rehearse(source: DicomSlices, series: DerivedSeries, syntax: UID) -> None:
    """Derive and encode every header once, so that an odd one is met before the first slice is computed."""
    for index, header in enumerate(source.headers):
        dataset = read_dataset(header.path)
        try:
            derived = derive_header(dataset, series, index, header)
            shape = (derived.Rows, derived.Columns) if index == 0 and syntax.is_encapsulated else (0, 0)
            _set_pixels(
                derived,
                np.zeros(shape, dtype="<i2" if header.pixel_format().signed else "<u2"),
                syntax if index == 0 else ExplicitVRLittleEndian,
            )
            pydicom.dcmwrite(io.BytesIO(), derived, enforce_file_format=True)
        except QdmMedError:
            raise
        except Exception as error:  # whatever values of a foreign header provoke in the encoder
            raise SeriesError(
                f"{shown(header.path)}: header cannot be written again ({type(error).__name__}); repair the file"
            ) from error


def _set_pixels(derived: Dataset, pixels: NDArray[Any], syntax: UID) -> None:
    """Give a header its pixels and File Meta Information of our own (PS3.10 7.1), nothing of the source's."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = derived.SOPClassUID
    meta.MediaStorageSOPInstanceUID = derived.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    meta.ImplementationVersionName = f"{TOOL} {__version__}"[:16]
    derived.file_meta = meta
    derived.PixelData = pixels.tobytes()
    derived["PixelData"].VR = "OW"
    if syntax.is_encapsulated:
        _compress(derived, pixels, syntax)


def _compress(derived: Dataset, pixels: NDArray[Any], syntax: UID) -> None:
    encode = _encode_htj2k if syntax == HTJ2KLossless else _encode
    try:
        encode(derived, pixels, syntax)
        kept = np.array_equal(pydicom.pixels.pixel_array(derived, raw=True), pixels)
    except QdmMedError:
        raise
    except Exception as error:  # codecs of several libraries, each with limits of its own
        raise SeriesError(f"{syntax.name}: cannot encode these images; use another transfer syntax") from error
    if not kept:
        raise SeriesError(f"{syntax.name}: the codec does not keep these pixels; use another transfer syntax")


def _encode(derived: Dataset, pixels: NDArray[Any], syntax: UID) -> None:
    derived.compress(syntax, pixels, generate_instance_uid=False)


def _encode_htj2k(derived: Dataset, pixels: NDArray[Any], syntax: UID) -> None:
    """Encode with OpenJPH; pydicom can decode HTJ2K but not encode it."""
    try:
        import imagecodecs  # an extra: large, and of use for this alone
    except ImportError:
        raise ConfigError(
            "transfer_syntax htj2k needs imagecodecs, the extra htj2k: pip install 'qdm-med[htj2k]'"
        ) from None
    derived.PixelData = encapsulate([imagecodecs.htj2k_encode(pixels, reversible=True)])
    derived["PixelData"].VR = "OB"
    derived["PixelData"].is_undefined_length = True
    derived.file_meta.TransferSyntaxUID = syntax


def _slice_bytes(volume: Volume, derivation: Derivation) -> int:
    _, rows, columns = volume.geometry.shape
    matrix = derivation.matrix_of(rows, columns)
    size = matrix[0] * matrix[1] * 2
    if max(matrix) > LARGEST_SIDE or size >= 2**32 - 2:
        raise SeriesError(
            f"{rows}x{columns} pixels times {derivation.scale} do not fit a DICOM image (65535 a side, 4 GiB); use a smaller "
            "scale or --matrix"
        )
    return size


def _job_key(source: DicomSlices, series: DerivedSeries, transfer_syntax: str) -> str:
    instances = [header.sop_uid for header in source.headers]
    job = series.derivation.job_key(source.headers[0].series_uid)
    record = [job, series.number, series.private, series.equipment, transfer_syntax, instances]
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
