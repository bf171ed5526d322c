"""The black-box checker of derived series agrees: on phantoms that sweep the inputs, and on real CT."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "ct"
pytestmark = pytest.mark.shared


def rich(ds, index):
    """Everything at once that has to be kept, dropped or extended."""
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(1, "OB", bytes(5000))
    block.add_new(2, "LO", "hello")
    nested = Dataset()
    nested.PatientName = "Ä^B"
    block.add_new(4, "SQ", [nested])
    ds.TimezoneOffsetFromUTC, ds.SyntheticData, ds.DerivationDescription = "-0330", "YES", "earlier text"
    ds.IconImageSequence, ds.ShutterShape = [Dataset()], "RECTANGULAR"
    ds.add_new(0x60000010, "US", 20)
    ds.add_new("SmallestImagePixelValue", "US", 0)
    ds.WindowCenter, ds.WindowWidth, ds.SliceLocation = ["40", "-600"], ["400", "1500"], "1.25"


def padded(ds, index):
    stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
    stored[:3], stored[:, -2:] = -2000, -2000
    ds.PixelData = stored.tobytes()
    ds.add_new("PixelPaddingValue", "SS", -2000)


def japanese(ds, index):
    name = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"
    ds.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    ds["PatientName"] = RawDataElement(Tag("PatientName"), "PN", len(name), name, 0, False, True)


SIGNED = {"signed": True, "bits": 16, "intercept": 0.0}
PHANTOMS = {
    "rich": ({}, rich, {}),
    "rich, implicit": ({"syntax": ImplicitVRLittleEndian}, rich, {}),
    "rich, big-endian": ({"syntax": ExplicitVRBigEndian}, rich, {}),
    "oblique, anisotropic": ({"orientation": (0.8, 0.6, 0, -0.36, 0.48, 0.8), "spacing": (1.25, 0.3333333)}, None, {}),
    "tilted": ({"step": (0.0, 0.8, 2.5), "rows": 51, "columns": 40}, None, {}),
    "padded, implicit": (SIGNED | {"syntax": ImplicitVRLittleEndian}, padded, {}),
    "padded, JPEG-LS": (SIGNED | {"syntax": JPEGLSLossless}, padded, {"transfer_syntax": "jpeg-ls"}),
    "padded, RLE": (SIGNED | {"syntax": RLELossless}, padded, {"transfer_syntax": "rle"}),
    "rich, JPEG 2000": ({}, rich, {"transfer_syntax": "jpeg-2000"}),
    "padded, HTJ2K": (SIGNED, padded, {"transfer_syntax": "htj2k"}),
    "inverted": ({}, lambda ds, index: setattr(ds, "PhotometricInterpretation", "MONOCHROME1"), {}),
    "half HU": (SIGNED | {"slope": 0.5}, None, {}),
    "Japanese name": ({}, japanese, {}),
}


@pytest.mark.parametrize("name", PHANTOMS)
def test_a_magnified_phantom_keeps_the_contract(phantom, magnify, check_derived, tmp_path, name):
    fields, edit, options = PHANTOMS[name]
    source = phantom(**fields).write(edit or (lambda ds, index: None))
    out = magnify(source, tmp_path / "out", 4, **options)
    check_derived(source, out, 4)


def test_the_standard_equipment_keeps_the_contract(phantom, magnify, check_derived, tmp_path):
    source = phantom().write()
    out = magnify(source, tmp_path / "out", 8, equipment="standard", private="drop")
    check_derived(source, out, 8, "--equipment", "standard", "--private", "drop")


def test_what_is_left_of_a_damaged_series_keeps_the_contract(phantom, magnify, check_derived, tmp_path):
    source = phantom(slices=4).write()
    victim = sorted(source.iterdir())[1]
    victim.write_bytes(victim.read_bytes()[:400])
    check_derived(source, magnify(source, tmp_path / "out", 4, skip_bad=True), 4, "--partial")


@pytest.mark.slow
@pytest.mark.parametrize(("archive", "scale"), [("dcm_qa_ct_ge_head", 4), ("tcia_rider_pilot_0117", 8)])
def test_real_slices_keep_the_contract(magnify, check_derived, tmp_path, archive, scale):
    source = tmp_path / "in"
    with zipfile.ZipFile(REAL / f"{archive}.zip") as packed:
        for name in sorted(packed.namelist())[:2]:
            packed.extract(name, source)
    check_derived(source, magnify(source, tmp_path / "out", scale), scale)
