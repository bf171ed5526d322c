"""A phantom CT series, made with pydicom from scratch, and the black-box checker of derived series."""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pydicom.config
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSNearLossless,
)

from qdm_med.io.derivation import Derivation
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer

CHECKER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "check_derived.py"
ROOT_UID = "1.2.826.0.1.3680043.8.498"
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)

Edit = Callable[[Dataset, int], object]


@dataclass
class Phantom:
    """Where, how many and how large; every other attribute is changed by ``edit``."""

    folder: Path
    slices: int = 3
    rows: int = 20
    columns: int = 24
    orientation: Sequence[float] = AXIAL
    spacing: tuple[float, float] = (0.75, 0.5)
    step: Sequence[float] | None = None
    bits: int = 12
    signed: bool = False
    slope: float = 1.0
    intercept: float = -1024.0
    syntax: str = ExplicitVRLittleEndian
    series: int = 1

    def normal(self) -> np.ndarray:
        return np.cross(self.orientation[:3], self.orientation[3:])

    def hu(self, index: int) -> np.ndarray:
        """A body with an edge, a gradient and a bright, asymmetric corner."""
        rows, columns = np.mgrid[: self.rows, : self.columns]
        hu = np.where((rows > 2) & (columns > 3), 40.0, -1000.0) + 3 * rows + columns + 20 * index
        hu[4:7, 5:8] = 1500.0
        return hu

    def stored(self, index: int) -> np.ndarray:
        low, high = (-(1 << self.bits - 1), (1 << self.bits - 1) - 1) if self.signed else (0, (1 << self.bits) - 1)
        stored = np.clip(np.rint((self.hu(index) - self.intercept) / self.slope), low, high)
        return stored.astype("<i2" if self.signed else "<u2")

    def dataset(self, index: int) -> Dataset:
        ds = Dataset()
        _identify(ds, self.series, index)
        step = np.array(self.step if self.step is not None else 2.5 * self.normal())
        ds.ImagePositionPatient = [float(x) for x in np.array([-100.0, -80.0, 30.0]) + index * step]
        ds.ImageOrientationPatient = list(self.orientation)
        ds.PixelSpacing = list(self.spacing)
        ds.Rows, ds.Columns = self.rows, self.columns
        ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, self.bits, self.bits - 1
        ds.PixelRepresentation = int(self.signed)
        ds.RescaleSlope, ds.RescaleIntercept, ds.RescaleType = str(self.slope), str(self.intercept), "HU"
        ds.PixelData = self.stored(index).tobytes()
        ds["PixelData"].VR = "OW"
        return ds

    def write(self, edit: Edit = lambda ds, index: None) -> Path:
        """Write the series; file names say nothing about the order."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for index in range(self.slices):
            ds = self.dataset(index)
            edit(ds, index)
            save(ds, self.folder / f"s{self.series}_{(index * 7) % 10}{index}", self.syntax)
        return self.folder


def _identify(ds: Dataset, series: int, index: int) -> None:
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    ds.SOPInstanceUID = f"{ROOT_UID}.{series}.{index + 1}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"{ROOT_UID}.100", f"{ROOT_UID}.{series}"
    ds.FrameOfReferenceUID = f"{ROOT_UID}.200"
    ds.StudyDate, ds.StudyTime, ds.AcquisitionDate, ds.ContentDate = "20200102", "030405", "20200102", "20200102"
    ds.ContentTime, ds.AccessionNumber, ds.ReferringPhysicianName = "030405", "", ""
    ds.Modality, ds.Manufacturer, ds.ManufacturerModelName = "CT", "Phantom Works", "P1"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = "Secret^Müller", "ID-SECRET", "", "O"
    ds.StudyID, ds.SeriesNumber, ds.InstanceNumber, ds.AcquisitionNumber = "1", series, index + 1, 1
    ds.SeriesDescription, ds.PositionReferenceIndicator = "Thorax Übersicht", ""
    ds.PatientPosition, ds.BodyPartExamined = "HFS", "CHEST"
    ds.KVP, ds.SliceThickness, ds.ConvolutionKernel = "120", "2.5", "B30"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"


def save(ds: Dataset, path: Path, syntax: str = ExplicitVRLittleEndian) -> None:
    """Write a data set in any transfer syntax that pydicom can encode; the lossy ones with a small loss."""
    ds.file_meta = FileMetaDataset()
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.file_meta.ImplementationClassUID = f"{ROOT_UID}.9"
    native = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
    ds.file_meta.TransferSyntaxUID = syntax if syntax in native else ExplicitVRLittleEndian
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    if syntax not in native:
        loss = {JPEGLSNearLossless: {"jls_error": 2}, JPEG2000: {"j2k_psnr": [60]}}.get(syntax, {})
        ds.compress(syntax, generate_instance_uid=False, **loss)
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")  # some phantoms break the standard on purpose
        pydicom.dcmwrite(path, ds, enforce_file_format=True)


def magnify_series(
    source: Path, out: Path, scale: int = 4, *, exclude: Path | None = None, skip_bad: bool = False, **options: object
) -> Path:
    volume = read_volume(source, exclude=exclude, skip_bad=skip_bad)
    derivation = Derivation(scale, "nearest", "0" * 64, (("steps", "1"), ("seed", "0")))
    with open_writer(volume, out, derivation, WriterOptions(**options)) as writer:
        for index in range(len(volume)):
            if index not in writer.finished:
                writer.write(index, volume.slices[index].hu.repeat(scale, 0).repeat(scale, 1))
        return writer.commit()


@pytest.fixture(scope="session")
def magnify() -> Callable[..., Path]:
    """Derive a series by repeating every pixel: nothing of the image changes but its grid."""
    return magnify_series


@pytest.fixture(scope="session")
def outputs() -> Callable[[Path], list[pydicom.FileDataset]]:
    """Read the files of a derived series, in the order of their names, which is that of the slices."""
    return lambda folder: [pydicom.dcmread(path) for path in sorted(folder.iterdir())]


@pytest.fixture
def check_derived() -> Callable[..., str]:
    """Run the black-box checker; fails with its report."""

    def check(source: Path, out: Path, scale: int, *options: str) -> str:
        command = [sys.executable, str(CHECKER), str(source), str(out), str(scale), *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        failures = [line for line in done.stdout.splitlines() if not line.startswith("PASS")]
        assert done.returncode == 0, "\n".join([*failures, done.stderr])
        return done.stdout

    return check


@pytest.fixture(scope="session")
def phantom_at() -> type[Phantom]:
    """Make a :class:`Phantom` in a folder that is given."""
    return Phantom


@pytest.fixture
def phantom(tmp_path: Path) -> Callable[..., Phantom]:
    """Make a :class:`Phantom` in a folder of its own."""

    def make(name: str = "in", **fields: object) -> Phantom:
        return Phantom(tmp_path / name, **fields)

    return make
