"""Programs that we did not write read a derived series as it is meant: SimpleITK, dcm2niix, pydicom, dicom3tools."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut

SCALE = 4
BIN = Path(sys.executable).parent
SIGNED = {"signed": True, "bits": 16, "intercept": 0.0}
SERIES = {
    "axial": {},
    "coronal, signed": SIGNED | {"orientation": (1, 0, 0, 0, 0, -1)},
    "oblique, half HU": SIGNED | {"orientation": (0.8, 0.6, 0, -0.36, 0.48, 0.8), "slope": 0.5},
    "not square, rounded": {"rows": 17, "columns": 33, "spacing": (0.7519531, 0.3333333)},
}


@pytest.fixture(params=SERIES)
def made(request, phantom, magnify, tmp_path):
    """A phantom of known geometry and its derived series, as pydicom reads them in the order of places."""
    source = phantom(slices=4, **SERIES[request.param])
    source.write()
    return source, magnify(source.folder, tmp_path / "out", SCALE)


def expected_affine(source) -> np.ndarray:
    """Index ``(slice, row, column)`` of the derived series to LPS mm, from the phantom's own numbers.

    The outer edge of the image stays, half a source pixel before the first source centre and half a derived pixel
    before the first derived one.
    """
    right, down = np.array(source.orientation, float).reshape(2, 3)
    between_rows, between_columns = source.spacing
    corner = np.array([-100.0, -80.0, 30.0]) - (between_columns * right + between_rows * down) / 2
    affine = np.eye(4)
    affine[:3, 0] = 2.5 * source.normal()
    affine[:3, 1], affine[:3, 2] = down * between_rows / SCALE, right * between_columns / SCALE
    affine[:3, 3] = corner + (affine[:3, 1] + affine[:3, 2]) / 2
    return affine


def expected_hu(source) -> np.ndarray:
    """``(slice, row, column)`` HU: what the phantom's stored values mean, each repeated."""
    stored = np.stack([source.stored(index) for index in range(source.slices)]).astype(float)
    return (stored * source.slope + source.intercept).repeat(SCALE, 1).repeat(SCALE, 2)


def test_simpleitk_finds_every_voxel_in_its_place_with_its_hu(made):
    source, out = made
    (uid,) = SimpleITK.ImageSeriesReader.GetGDCMSeriesIDs(str(out))
    image = SimpleITK.ReadImage(SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(out), uid))
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    affine[:3, :3], affine[:3, 3] = direction[:, ::-1], image.GetOrigin()
    np.testing.assert_allclose(affine, expected_affine(source), atol=2e-6)
    np.testing.assert_allclose(SimpleITK.GetArrayFromImage(image), expected_hu(source), atol=1e-3)


def test_pydicom_finds_every_pixel_with_its_hu(made, outputs):
    source, out = made
    hu = np.stack([apply_modality_lut(each.pixel_array, each) for each in outputs(out)])
    np.testing.assert_array_equal(hu, expected_hu(source))


def test_dcm2niix_finds_every_voxel_in_its_place_with_its_hu(made, tmp_path):
    source, out = made
    subprocess.run([BIN / "dcm2niix", "-b", "n", "-z", "n", "-f", "made", "-o", tmp_path, out], check=True)
    image = nib.load(tmp_path / "made.nii")
    hu = np.asarray(image.dataobj, dtype=float)
    to_index = np.linalg.inv(expected_affine(source)) @ np.diag([-1.0, -1.0, 1.0, 1.0]) @ image.affine  # RAS to LPS
    places = np.indices(hu.shape).reshape(3, -1)
    exact = to_index[:3, :3] @ places + to_index[:3, 3:]
    nearest = np.rint(exact).astype(int)
    np.testing.assert_allclose(exact, nearest, atol=1e-2)
    np.testing.assert_allclose(expected_hu(source)[tuple(nearest)], hu.reshape(-1), atol=1e-3)
    assert hu.size == expected_hu(source).size


def errors(program: str, files: list[Path]) -> list[str]:
    """Error lines of a validator of dicom3tools."""
    done = subprocess.run([BIN / program, *files], capture_output=True, text=True, check=False)
    return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]


def vendor(ds, index):
    """What scanners add: nested sequences, private blocks, windows, earlier derivations; and one break of a rule."""
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(1, "OB", bytes(5000))
    ds.WindowCenter, ds.WindowWidth, ds.SliceLocation = ["40", "-600"], ["400", "1500"], f"{30 + 2.5 * index:g}"
    ds.TimezoneOffsetFromUTC, ds.GantryDetectorTilt, ds.ContentQualification = "+0100", "0", "PRODUCT"
    scout = Dataset()
    scout.ReferencedSOPClassUID, scout.ReferencedSOPInstanceUID = ds.SOPClassUID, f"{ds.SOPInstanceUID}.9"
    ds.ReferencedImageSequence = [scout]
    ds.add_new("PixelPaddingValue", "US", 0)
    ds.PatientSex = "WRONG"


@pytest.mark.parametrize("edit", [lambda ds, index: None, vendor], ids=["plain", "vendor"])
@pytest.mark.parametrize("options", [{}, {"equipment": "standard", "private": "drop"}], ids=["keep", "standard"])
def test_dciodvfy_reports_no_error_that_the_source_lacks(phantom, magnify, tmp_path, edit, options):
    source = phantom().write(edit)
    before, after = (
        {line for path in folder.iterdir() for line in errors("dciodvfy", [path])}
        for folder in (source, magnify(source, tmp_path / "out", SCALE, **options))
    )
    assert bool(before) is (edit is vendor)
    assert after <= before


def test_dcentvfy_finds_study_and_series_consistent(phantom, magnify, tmp_path):
    source = phantom().write()
    out = magnify(source, tmp_path / "out", SCALE)
    together = sorted([*source.iterdir(), *out.iterdir()])
    assert errors("dcentvfy", together) == []
    other = pydicom.dcmread(together[-1])
    other.SeriesNumber = 999
    other.save_as(together[-1])
    assert errors("dcentvfy", together) != []
