"""Single planes of HU as files, DICOM or NIfTI: written for other programs, and read from them."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from pydicom import dcmwrite
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import shown
from qdm_med.io.raster.nifti import RAS_TO_LPS
from qdm_med.io.read import read_volume
from qdm_med.volume import FloatArray

UNKNOWN_THICKNESS_MM = 1.0
"""Distance between planes where the source named no thickness: a plane must have some."""
_NAMESPACE = uuid.UUID("6e0a1b0c-4c47-5d0e-9a39-5b8f3f0f6d18")
_STORED_ZERO_HU = -1024


@dataclass(frozen=True)
class Plane:
    """A plane to write.

    Attributes:
        hu: ``(rows, columns)`` HU.
        name: Identifies the plane; its UIDs follow from it.
        patient: Anonymous key, in the place of patient's name and ID.
        spacing_mm: Distance of neighbouring pixel centres.
        thickness_mm: Slice thickness; not positive: unknown.
        description: Words for the header, at most 64 characters.
    """

    hu: FloatArray
    name: str
    patient: str
    spacing_mm: float
    thickness_mm: float
    description: str

    def uid(self, what: str) -> UID:
        """UID that is the same whenever the plane is written."""
        return UID(f"2.25.{uuid.uuid5(_NAMESPACE, f'{what} {self.name}').int}")


def write_nifti_plane(plane: Plane, path: Path) -> None:
    """Write float32 HU as NIfTI-1, axes (column, row, slice), rows and columns along the patient's left and back."""
    thickness = plane.thickness_mm if plane.thickness_mm > 0 else UNKNOWN_THICKNESS_MM
    affine = RAS_TO_LPS @ np.diag([plane.spacing_mm, plane.spacing_mm, thickness, 1.0])
    image = nibabel.nifti1.Nifti1Image(plane.hu.T[:, :, None].astype(np.float32), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)


def write_dicom_plane(plane: Plane, path: Path) -> None:
    """Write whole HU as a CT image (PS3.3 A.3): a study and series of its own, without anything of the patient."""
    header = _identified(plane)
    rows, columns = plane.hu.shape
    stored = np.clip(np.rint(plane.hu) - _STORED_ZERO_HU, 0, 4095).astype("<u2")
    header.Rows, header.Columns = rows, columns
    header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
    header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 12, 11, 0
    header.RescaleSlope, header.RescaleIntercept, header.RescaleType = "1", str(_STORED_ZERO_HU), "HU"
    header.WindowCenter, header.WindowWidth = "40", "400"
    header.PixelSpacing = [f"{plane.spacing_mm:.10g}"] * 2
    header.SliceThickness = f"{plane.thickness_mm:.10g}" if plane.thickness_mm > 0 else ""
    header.ImagePositionPatient, header.ImageOrientationPatient = ["0", "0", "0"], ["1", "0", "0", "0", "1", "0"]
    header.PixelData = stored.tobytes()
    header["PixelData"].VR = "OW"
    header.file_meta = FileMetaDataset()
    header.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dcmwrite(path, header, enforce_file_format=True)


def _identified(plane: Plane) -> Dataset:
    header = Dataset()
    header.SOPClassUID, header.SOPInstanceUID = CTImageStorage, plane.uid("image")
    header.StudyInstanceUID, header.SeriesInstanceUID = plane.uid("study"), plane.uid("series")
    header.FrameOfReferenceUID, header.PositionReferenceIndicator = plane.uid("frame"), ""
    header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    header.SeriesDescription = header.DerivationDescription = plane.description
    header.PatientName = header.PatientID = plane.patient
    header.PatientIdentityRemoved, header.DeidentificationMethod = "YES", "Pixels only; the key is a hash"
    header.Modality, header.SeriesNumber, header.InstanceNumber, header.AcquisitionNumber = "CT", 1, 1, 1
    for keyword in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "Manufacturer", "KVP", "PatientPosition", "Laterality"),
    ):
        setattr(header, keyword, "")
    return header


def read_plane(path: Path) -> FloatArray:
    """Read the HU of a file with one plane, DICOM, NIfTI, NRRD or MetaImage, whoever made it.

    Returns:
        ``(rows, columns)`` float32 HU, rows and columns along the patient's left and back, as they were written.

    Raises:
        SeriesError: If the file cannot be read, holds more than one plane, or its axes are turned or mirrored.
    """
    volume = read_volume(path, force=True)
    if len(volume) != 1:
        raise SeriesError(f"{shown(path)}: holds {len(volume)} planes; write one file for each")
    axes = volume.geometry.affine[:3, 1:3] / np.array(volume.geometry.spacing[1:])  # of rows and columns, in LPS
    if not np.allclose(axes, [[0, 1], [1, 0], [0, 0]], atol=1e-3):
        raise SeriesError(f"{shown(path)}: its axes are not those of the input; write it with the input's orientation")
    return volume.slices[0].hu
