"""Parametric Maps (PS3.3 A.75) of the uncertainty of each pixel, one beside every image of a derived series.

A series of single-frame maps, not one map of many frames: each is written when its slice is done, so that memory stays
bounded, a killed run resumes, and a large series does not meet the 4 GiB that one DICOM element may hold.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import highdicom
import numpy as np
import pydicom
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodeContentItem, CodedConcept
from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian
from pydicom.valuerep import format_number_as_ds

from qdm_med._version import __version__
from qdm_med.errors import SeriesError
from qdm_med.io.derivation import TOOL, Derivation
from qdm_med.io.dicom.derived_header import describe, free_series_number
from qdm_med.io.dicom.derived_series import IMPLEMENTATION_CLASS_UID, DerivedSeriesWriter
from qdm_med.io.dicom.file import quiet, read_dataset, shown
from qdm_med.io.dicom.rescale import magnified
from qdm_med.io.output.place import check_folder, replace_folder
from qdm_med.io.output.writer import ResumableWriter
from qdm_med.volume import FloatArray

HOUNSFIELD_UNIT = CodedConcept("[hnsf'U]", "UCUM", "Hounsfield unit")  # CID 84
ATTENUATION = CodedConcept("112031", "DCM", "Attenuation Coefficient")  # CID 7180
DERIVATION = CodedConcept("121401", "DCM", "Derivation")  # CID 7553: how a quantity was summarised
STANDARD_DEVIATION = CodedConcept("386136009", "SCT", "Standard Deviation")  # CID 7464

LARGEST_STD_HU = float(np.finfo(np.float32).max)
SHOWN_HU = 100.0
"""Standard deviation that viewers show in white at first."""

_TYPE_2 = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime"),
)
"""May be empty, not absent (PS3.3 C.7.1.1, C.7.2.1)."""
_KEPT = (
    *("InstanceCreationDate", "InstanceCreationTime", "ContentDate", "ContentTime", "SeriesDate", "SeriesTime"),
    *("TimezoneOffsetFromUTC", "BodyPartExamined", "Laterality"),
)
"""Attributes of the image that are its map's as well: the run's times, in the time zone of the header, and the region."""


class ParametricMapWriter(ResumableWriter):
    """Writer of the samples' standard deviation as float32 HU, on the grid of a derived DICOM series.

    Each map names the image it belongs to as its source; where the source is padding it is 0.

    Args:
        series: Writer of the series, of the same run.
        out: Folder to create.
        derivation: Record of how the standard deviation is computed.
        overwrite: Replace an earlier output.

    Raises:
        SeriesError: If the output cannot be made from this source or in this place; nothing is then written.
    """

    def __init__(
        self, series: DerivedSeriesWriter, out: Path, derivation: Derivation, *, overwrite: bool = False
    ) -> None:
        self._of = series
        self._derivation = derivation
        self._number = free_series_number(series.series.number, 1, series.taken_numbers)
        _, rows, columns = series.volume.geometry.shape
        shape = derivation.matrix_of(rows, columns)
        place = partial(check_folder, out, series.volume.provenance.files, overwrite=overwrite)
        # An odd header is met before anything is computed.
        self._map(0, np.zeros(shape, dtype=np.float32), uuid.uuid4())
        super().__init__(
            series.volume,
            place,
            matrix=shape,
            # A series that is begun afresh has other UIDs, and its map begins afresh with it.
            key=hashlib.sha256(json.dumps([series.series.run.hex, derivation.job_key("")]).encode()).hexdigest(),
            suffix="dcm",
            slice_bytes=4 * shape[0] * shape[1],
        )

    def _write_slice(self, file: BinaryIO, index: int, hu: FloatArray) -> None:
        spread = np.where(magnified(self._of.padding(index), self.matrix), np.float32(0), hu)
        derived = self._map(index, spread, self._job.run)
        with quiet():
            pydicom.dcmwrite(file, derived, enforce_file_format=True)

    def _map(self, index: int, std_hu: FloatArray, run: uuid.UUID) -> Dataset:
        image = self._of.header(index)
        try:
            with quiet():
                identity = MapIdentity(UID(f"2.25.{run.int}"), _instance_uid(run, index), self._number, index + 1)
                return parametric_map(
                    image, std_hu, self._derivation, identity, slice_spacing_mm=self._of.volume.geometry.spacing[0]
                )
        except Exception as error:  # highdicom met a foreign header
            raise SeriesError(
                f"slice {index}: its header is invalid for a parametric map ({type(error).__name__}); "
                "repair the file or do without --uncertainty"
            ) from error

    def _put_in_place(self) -> None:
        for index in range(len(self.volume)):
            path = self.slice_path(index)
            if read_dataset(path, tags=["SOPInstanceUID"]).get("SOPInstanceUID") != _instance_uid(self._job.run, index):
                raise SeriesError(f"{shown(path)}: is not the map that was written; run again")
        replace_folder(self._job.slices, self.out)


def _instance_uid(run: uuid.UUID, index: int) -> UID:
    return UID(f"2.25.{uuid.uuid5(run, str(index)).int}")


@dataclass(frozen=True)
class MapIdentity:
    """UIDs and numbers of a map.

    Attributes:
        series_uid: Series Instance UID of all maps.
        instance_uid: SOP Instance UID of this one.
        series_number: Series Number of all maps.
        instance_number: Its place in its series, from 1.
    """

    series_uid: UID
    instance_uid: UID
    series_number: int
    instance_number: int


def parametric_map(
    image: Dataset, std_hu: FloatArray, derivation: Derivation, identity: MapIdentity, *, slice_spacing_mm: float
) -> Dataset:
    """Make the map of one image. Call it within ``quiet()``.

    Args:
        image: Header of the derived image, which gives patient, study, place and grid; changed where it lacks what may
            be empty, not absent.
        std_hu: ``(rows, columns)`` standard deviation in HU on the image's grid.
        derivation: Record of how it was computed.
        identity: UIDs and numbers of the map.
        slice_spacing_mm: Distance between slices, for the thickness where the image has none.
    """
    _complete(image, slice_spacing_mm)
    made = _new_map(image, std_hu, derivation, identity)
    if image.get("SeriesDescription"):
        made.SeriesDescription = image.SeriesDescription
    describe(made, "SD")  # the image's own description says source, scale, mode and seed
    made.DerivationDescription = derivation.description()
    made.SyntheticData = "YES"
    _take_over(made, image)
    # highdicom takes 1 mm where it is given one image, which does not know how far the next one is.
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    if "SpacingBetweenSlices" in measures:
        del measures.SpacingBetweenSlices
    made.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    made.file_meta.ImplementationVersionName = f"{TOOL} {__version__}"[:16]
    return made


def _new_map(image: Dataset, std_hu: FloatArray, derivation: Derivation, identity: MapIdentity) -> Dataset:
    """Make a map as highdicom does."""
    has_face = image.get("RecognizableVisualFeatures") != "NO"  # edges of a face are in a map, too
    return ParametricMap(
        source_images=[image],
        pixel_array=np.ascontiguousarray(std_hu, dtype=np.float32),
        series_instance_uid=identity.series_uid,
        series_number=identity.series_number,
        sop_instance_uid=identity.instance_uid,
        instance_number=identity.instance_number,
        manufacturer=TOOL,
        manufacturer_model_name=TOOL,
        software_versions=(f"{TOOL} {__version__}", derivation.model_line()[-64:]),  # type: ignore[arg-type]  # means tuple[str, ...]
        device_serial_number=derivation.model_sha256[:12],
        contains_recognizable_visual_features=has_face,
        real_world_value_mappings=[_mapping()],
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=SHOWN_HU / 2, window_width=SHOWN_HU)],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        specific_character_set="ISO_IR 192",  # texts are decoded, and highdicom refuses some lists of character sets
        content_label="STD",
        content_description="Standard deviation of samples in HU",
    )


def _complete(image: Dataset, slice_spacing_mm: float) -> None:
    """Fill in the values that a map must have."""
    for keyword in _TYPE_2:
        if keyword not in image:
            setattr(image, keyword, "")
    if not image.get("SliceThickness"):
        image.SliceThickness = format_number_as_ds(slice_spacing_mm)


def _take_over(made: Dataset, image: Dataset) -> None:
    """Copy values of the image into the map; highdicom's own times are in the zone of the machine."""
    for keyword in _KEPT:
        if keyword in image:
            made[keyword] = image[keyword]
    for item in made.get("ContributingEquipmentSequence") or []:
        if "ContributionDateTime" in item:
            item.ContributionDateTime = f"{image.SeriesDate}{image.SeriesTime}"


def _mapping() -> RealWorldValueMapping:
    """Declare pixel values to be HU as they stand, and their quantity a standard deviation (PS3.3 C.7.6.16.2.11)."""
    mapping = RealWorldValueMapping(
        lut_label="HU",
        lut_explanation="Standard deviation of the samples",
        unit=HOUNSFIELD_UNIT,
        value_range=(0.0, LARGEST_STD_HU),
        slope=1.0,
        intercept=0.0,
        quantity_definition=ATTENUATION,
    )
    mapping.QuantityDefinitionSequence.append(CodeContentItem(name=DERIVATION, value=STANDARD_DEVIATION))
    return mapping
