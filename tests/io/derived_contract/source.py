"""A source slice with at least one attribute for every rule."""

from __future__ import annotations

import numpy as np
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

SCALE = 4
SOURCE_ROOT = "1.2.826.0.1.3680043.8.498"
SOURCE_UID = f"{SOURCE_ROOT}.1.1"


def item(**attributes) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def code(value: str) -> list[Dataset]:
    return [item(CodeValue=value, CodingSchemeDesignator="DCM", CodeMeaning="meaning")]


KEPT = {
    "SpecificCharacterSet": ["", "ISO 2022 IR 87"],
    "PatientAge": "050Y",
    "PatientWeight": "70",
    "PatientSex": "F",
    "StudyDescription": "Chest",
    "StudyDate": "20200102",
    "StudyTime": "030405",
    "StudyID": "7",
    "AccessionNumber": "A1",
    "AcquisitionDate": "20200102",
    "AcquisitionTime": "030405",
    "AcquisitionNumber": 3,
    "AcquisitionUID": "1.2.5",
    "IrradiationEventUID": "1.2.6",
    "PositionReferenceIndicator": "SN",
    "ReferencedPerformedProcedureStepSequence": [item(ReferencedSOPInstanceUID="1.2.7")],
    "RequestAttributesSequence": [item(ScheduledProcedureStepID="9")],
    "OriginalAttributesSequence": [item(ReasonForTheAttributeModification="COERCE")],
    "TimezoneOffsetFromUTC": "+0545",
    "TemporalPositionIdentifier": 1,
    "InstitutionName": "Hospital",
    "StationName": "CT1",
    "DeviceSerialNumber": "123",
    "SoftwareVersions": "syngo 1",
    "ManufacturerModelName": "P1",
    "SliceThickness": "2.5",
    "SpacingBetweenSlices": "2.5",
    "GantryDetectorTilt": "0.0",
    "ReconstructionDiameter": "12.00",
    "DataCollectionDiameter": "500",
    "ReconstructionTargetCenterPatient": [1.0, 2.0, 3.0],
    "DataCollectionCenterPatient": [1.0, 2.0, 3.0],
    "TableHeight": "150",
    "KVP": "120",
    "ConvolutionKernel": "B30f",
    "CTDIvol": 5.5,
    "RescaleSlope": "1.000",
    "RescaleIntercept": "0.0",
    "RescaleType": "HU",
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelPaddingValue": -2000,
    "PixelPaddingRangeLimit": -1990,
    "WindowCenter": ["40", "-600"],
    "WindowWidth": ["400", "1500"],
    "WindowCenterWidthExplanation": ["SOFT", "LUNG"],
    "VOILUTFunction": "LINEAR",
    "PresentationLUTShape": "IDENTITY",
    "LossyImageCompression": "01",
    "LossyImageCompressionRatio": "7.5",
    "LossyImageCompressionMethod": "ISO_10918_1",
    "BurnedInAnnotation": "NO",
    "RecognizableVisualFeatures": "NO",
    "RealWorldValueMappingSequence": [item(RealWorldValueSlope=1.0)],
    "QualityControlImage": "NO",
}
"""Attributes that a derived image has as its source has them (sections 1 to 4 and 6)."""

ALSO_KEPT = (
    *("SOPClassUID", "Modality", "StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "PatientName", "Manufacturer"),
    *("PatientBirthDate", "PatientPosition", "InstanceNumber", "SliceLocation", "ImageOrientationPatient"),
    *("SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "ReferencedImageSequence"),
)

DROPPED = {
    "InstanceCreatorUID": "1.2.8",
    "StorageMediaFileSetID": "SET",
    "StorageMediaFileSetUID": "1.2.9",
    "DigitalSignaturesSequence": [item(MACIDNumber=1)],
    "MACParametersSequence": [item(MACIDNumber=1)],
    "IconImageSequence": [item(Rows=1)],
    "DataSetTrailingPadding": bytes(8),
    "PixelAspectRatio": [1, 1],
    "ExtendedOffsetTable": bytes(8),
    "ExtendedOffsetTableLengths": bytes(8),
    "ShutterShape": "RECTANGULAR",
    "ShutterLeftVerticalEdge": 3,
    "SmallestImagePixelValue": 5,
    "LargestImagePixelValue": 5,
    "SmallestPixelValueInSeries": 5,
    "LargestPixelValueInSeries": 5,
}
"""What is bound to the old pixels or the old file (sections 2 to 5)."""


def everything(ds, index):
    """A source slice with at least one attribute for every rule."""
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL", "CT_SOM5 SPI"]
    for keyword, value in KEPT.items():
        setattr(ds, keyword, value)
    ds.SliceLocation = f"{30 + 2.5 * index:.2f}"
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    ds["PatientName"] = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, False, True)
    ds.DerivationDescription, ds.DerivationCodeSequence = "earlier text", code("113040")
    ds.ContributingEquipmentSequence = [item(Manufacturer="Earlier", PurposeOfReferenceCodeSequence=code("109103"))]
    ds.SyntheticData = "YES"
    scout = item(ReferencedSOPClassUID=ds.SOPClassUID, ReferencedSOPInstanceUID="1.2.3.4")
    ds.ReferencedImageSequence = [scout]
    ds.ReferencedSeriesSequence = [item(SeriesInstanceUID="1.2.3", ReferencedInstanceSequence=[scout])]
    ds.InstanceCreationDate, ds.InstanceCreationTime = "20200102", "030405"
    ds.SeriesDate, ds.SeriesTime = "20200102", "030405"
    for keyword, value in DROPPED.items():
        setattr(ds, keyword, value)
    ds.add_new(0x60000010, "US", 20)
    ds.add_new(0x50000005, "US", 1)
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(1, "OB", bytes(5000))
    block.add_new(2, "LO", "hello")
    block.add_new(3, "SQ", [item(PatientID="nested")])
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
    stored[:3], stored[:, -2:], stored[0, 0] = -2000, -2000, -1995
    ds.PixelData = stored.tobytes()
