"""How pixels are stored: every encoding, sign, bits, rescale, padding; and what cannot be read faithfully."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

SIGNED = {"signed": True, "bits": 16, "intercept": 0.0}
NATIVE = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
PACKED = (RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000)
LOSSY = (JPEGLSNearLossless, JPEG2000, JPEGExtended12Bit)
ENCODERS = {
    JPEGLossless: lambda stored: imagecodecs.jpeg8_encode(stored, bitspersample=12, lossless=True, predictor=4),
    JPEGLosslessSV1: lambda stored: imagecodecs.jpeg8_encode(stored, bitspersample=12, lossless=True, predictor=1),
    JPEGExtended12Bit: lambda stored: imagecodecs.jpeg8_encode(stored, level=95, bitspersample=12),
    HTJ2KLossless: lambda stored: imagecodecs.htj2k_encode(stored, reversible=True),
}
"""What pydicom can decode and not encode."""


def repack(folder, syntax):
    """Encode the pixels of every file anew."""
    for path in folder.iterdir():
        ds = pydicom.dcmread(path)
        ds.PixelData = encapsulate([ENCODERS[syntax](ds.pixel_array)])
        ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
        ds.file_meta.TransferSyntaxUID = syntax
        ds.save_as(path)
    return folder


@pytest.mark.parametrize("syntax", [*NATIVE, *PACKED, *ENCODERS], ids=lambda uid: uid.name)
def test_every_encoding_is_read_and_a_loss_stays_on_record(phantom, succeeds, syntax):
    made = phantom(rows=40, columns=48, syntax=ExplicitVRLittleEndian if syntax in ENCODERS else syntax)
    folder = repack(made.write(), syntax) if syntax in ENCODERS else made.write()
    outcome = succeeds(folder, told="lossy" if syntax in LOSSY else "")
    assert {each.get("LossyImageCompression", "00") for each in outcome.slices()} == {"01" if syntax in LOSSY else "00"}
    if syntax not in LOSSY:
        assert "lossy" not in outcome.out


def pixels(change):
    def edit(ds, index):
        stored = np.frombuffer(ds.PixelData, "<i2" if ds.PixelRepresentation else "<u2").reshape(ds.Rows, ds.Columns)
        ds.PixelData = change(stored.copy()).astype(stored.dtype).tobytes()

    return edit


def metal(stored):
    stored[8:12, 10:14] = 4095
    return stored


def frame_of(value):
    def change(stored):
        stored[:3], stored[:, -2:] = value, value
        return stored

    return change


def declared(value, vr):
    change = pixels(frame_of(value))

    def edit(ds, index):
        change(ds, index)
        ds.add_new("PixelPaddingValue", vr, value)

    return edit


def overlay(ds, index):
    ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x3000).tobytes()
    for element, vr, value in ((0x10, "US", 20), (0x11, "US", 24), (0x100, "US", 16), (0x102, "US", 12)):
        ds.add_new(0x60000000 + element, vr, value)
    ds.add_new(0x60000040, "CS", "G")
    ds.add_new(0x60000050, "SS", [1, 1])


def inverted(ds, index):
    ds.PhotometricInterpretation = "MONOCHROME1"


MET = {
    "MONOCHROME1": ({}, inverted, ""),
    "12 bits with saturated metal": ({"rows": 48, "columns": 56}, pixels(metal), ""),
    "16 bits signed": (SIGNED, None, ""),
    "12 bits signed": ({"signed": True, "intercept": 0.0}, None, ""),
    "16 bits unsigned": ({"bits": 16}, None, ""),
    "half HU": (SIGNED | {"slope": 0.5}, None, ""),
    "rescale of each slice": ({}, lambda ds, index: setattr(ds, "RescaleIntercept", f"{-1024 - index}"), "rescale var"),
    "padding that is declared": (SIGNED, declared(-2000, "SS"), ""),
    "padding that is declared unsigned": ({}, declared(0, "US"), ""),
    "padding that nobody declares": (SIGNED, pixels(frame_of(-3024)), ""),
    "padding alone": (SIGNED, pixels(lambda stored: np.full_like(stored, -2000)), ""),
    "air alone": (SIGNED, pixels(lambda stored: np.full_like(stored, -1000)), ""),
    "an overlay in the high bits": ({}, overlay, "not carried into a derived series"),
    "no rescale type": ({}, lambda ds, index: delattr(ds, "RescaleType"), ""),
    "pixels in OB": ({}, lambda ds, index: setattr(ds["PixelData"], "VR", "OB"), ""),
}


@pytest.mark.parametrize("case", MET)
def test_stored_values_are_understood_and_written_alike(phantom, succeeds, case):
    fields, edit, told = MET[case]
    succeeds(phantom(**fields).write(edit or (lambda ds, index: None)), told=told)


def every(keyword, value):
    return lambda ds, index: setattr(ds, keyword, value)


def without(keyword):
    return lambda ds, index: delattr(ds, keyword)


def rgb(ds, index):
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 0
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(3 * ds.Rows * ds.Columns)


def wide(ds, index):
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 32, 32, 31
    ds.PixelData = bytes(4 * ds.Rows * ds.Columns)


def narrow(ds, index):
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 8, 8, 7
    ds.PixelData = bytes(ds.Rows * ds.Columns)


def frames(ds, index):
    ds.NumberOfFrames, ds.PixelData = 2, 2 * ds.PixelData


def enhanced(ds, index):
    frames(ds, index)
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope"):
        delattr(ds, keyword)


REFUSED = {
    "RescaleSlope absent": without("RescaleSlope"),
    "RescaleSlope 0": every("RescaleSlope", "0"),
    "RescaleIntercept is absent": without("RescaleIntercept"),
    "RescaleType HOUNSFIELD UNIT: only HU can be super-resolved; ": every("RescaleType", "HOUNSFIELD UNIT"),
    "RescaleType US": every("RescaleType", "US"),
    "SamplesPerPixel 3, RGB": rgb,
    "BitsAllocated 32": wide,
    "BitsAllocated 8": narrow,
    "NumberOfFrames 2: multi-frame": frames,
    "Enhanced CT Image Storage is not supported": enhanced,
    "Legacy Converted Enhanced CT Image Storage is not": every("SOPClassUID", "1.2.840.10008.5.1.4.1.1.2.2"),
    "has no pixel data": without("PixelData"),
}


@pytest.mark.parametrize("complaint", REFUSED)
def test_what_cannot_be_read_faithfully_is_refused(phantom, refused, complaint):
    refused(phantom().write(REFUSED[complaint]), told=complaint)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEG2000Lossless])
@pytest.mark.parametrize("damage", ["cut short", "corrupt"])
def test_a_damaged_file_is_named_or_skipped_on_request(phantom, refused, attempt, tmp_path, syntax, damage):
    folder = phantom(rows=40, columns=48, syntax=syntax).write()
    victim = sorted(folder.iterdir())[1]
    content = victim.read_bytes()
    if damage == "cut short":
        victim.write_bytes(content[: len(content) * 3 // 4])
    else:
        where = content.index(b"\xe0\x7f\x10\x00")
        victim.write_bytes(content[:where] + bytes(12) + content[where + 12 :])
    refused(folder, told=victim.name)
    outcome = attempt(folder, "--skip-bad")
    assert (outcome.code, len(outcome.slices())) == (0, 2)
    assert f"skipped 1 slices or files that cannot be read, first: {victim}"[-60:] in outcome.out
