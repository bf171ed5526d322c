"""Names and texts of any script, texts that are none, private data, signatures; and that no text becomes a path."""

from __future__ import annotations

import hashlib

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from qdm_med.io.dicom.file import quiet


def raw(ds, keyword, vr, value):
    """An element that is just these bytes."""
    value += b" " * (len(value) % 2)
    ds[keyword] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)


NAMES = {
    "ISO_IR 6": ([""], b"Doe^John"),
    "Latin 1": (["ISO_IR 100"], b"M\xfcller^J\xf6rg"),
    "Japanese, ISO 2022": (["", "ISO 2022 IR 87"], b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"),
    "Japanese, half width": (["ISO 2022 IR 13", "ISO 2022 IR 87"], b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J"),
    "Korean, ISO 2022": (["", "ISO 2022 IR 149"], b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
    "GB18030": (["GB18030"], b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab"),
    "GBK": (["GBK"], b"Wang=\xcd\xf5^\xd0\xa1"),
    "UTF-8": (["ISO_IR 192"], "Wang^小东".encode()),
    "an unknown set": (["ISO_IR 999"], b"M\xfcller^J\xf6rg"),
    "bytes that the set has not": (["ISO_IR 192"], b"M\xfcller^J\xf6rg"),
    "control characters": (["ISO_IR 100"], b"Doe\x07^John\x1b[31m"),
    "half an escape": (["", "ISO 2022 IR 87"], b"Yamada=\x1b$B;3E"),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_and_texts_are_kept_byte_for_byte(phantom, succeeds, attempt, outputs, name):
    charsets, value = NAMES[name]

    def edit(ds, index):
        ds.SpecificCharacterSet = charsets
        for keyword, vr in (("PatientName", "PN"), ("StudyDescription", "LO"), ("ReferringPhysicianName", "PN")):
            raw(ds, keyword, vr, value)
        raw(ds, "SeriesDescription", "LO", value[:40])

    with quiet():
        folder = phantom().write(edit)
        # The checker wants texts that can be decoded; these bytes are kept and nobody can.
        outcome = attempt(folder) if name == "bytes that the set has not" else succeeds(folder)
        assert outcome.code == 0
        for derived, source in zip(outcome.slices(), outputs(folder), strict=True):
            for keyword in ("PatientName", "StudyDescription", "ReferringPhysicianName", "SpecificCharacterSet"):
                assert derived.get_item(keyword).value == source.get_item(keyword).value


ESCAPES = ["../../escaped", "/tmp/escaped", "a/b", "$(touch escaped)", "CON", "1.2.3\0", "%2e%2e"]


@pytest.mark.parametrize("text", ESCAPES)
def test_no_uid_and_no_name_reaches_a_path(phantom, attempt, text, tmp_path):
    def edit(ds, index):
        ds.SeriesInstanceUID, ds.StudyInstanceUID, ds.SOPInstanceUID = text, text, f"{text}{index}"
        ds.PatientID = ds.StudyID = text
        ds.SeriesDescription = text

    with quiet():
        outcome = attempt(phantom().write(edit))
    assert outcome.code == 0
    assert sorted(path.name for path in outcome.place.iterdir()) == ["00001.dcm", "00002.dcm", "00003.dcm"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    for derived in outcome.slices():
        assert derived.SOPInstanceUID.startswith("2.25.")
        assert derived.SeriesInstanceUID.startswith("2.25.")


def test_a_uid_with_a_backslash_is_two_values_and_so_none(phantom, refused, tmp_path):
    with quiet():
        folder = phantom().write(lambda ds, index: setattr(ds, "SeriesInstanceUID", "..\\..\\escaped"))
        refused(folder, told="without the UIDs")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_texts_that_would_control_a_terminal_are_not_printed(phantom, refused):
    def edit(ds, index):
        raw(ds, "RescaleType", "LO", b"\x1b[31mHU\x07")

    with quiet():
        err = refused(phantom().write(edit), told="RescaleType").err
    assert all(c.isprintable() or c == "\n" for c in err)


def private(ds, index):
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    inner = Dataset()
    inner.PatientName, inner.PatientID = "Secret^Nested", "SECRET"
    block.add_new(1, "SQ", [inner])
    block.add_new(2, "OB", bytes(100_000))
    block.add_new(3, "UN", b"\1\2\3\4")
    block.add_new(4, "LO", "kept")
    ds.private_block(0x0009, "OTHER", create=True).add_new(1, "FD", 1.5)


def bound(ds, index):
    """Everything that is bound to the old pixels: signature, icon, overlay, curve, shutter."""
    icon = Dataset()
    icon.Rows = icon.Columns = 2
    icon.BitsAllocated, icon.SamplesPerPixel, icon.PixelData = 8, 1, bytes(4)
    mac = Dataset()
    mac.MACIDNumber = 1
    ds.IconImageSequence, ds.DigitalSignaturesSequence, ds.MACParametersSequence = [icon], [mac], [mac]
    ds.ShutterShape, ds.ShutterLeftVerticalEdge, ds.ShutterRightVerticalEdge = "RECTANGULAR", 2, 20
    ds.ShutterUpperHorizontalEdge, ds.ShutterLowerHorizontalEdge = 2, 18
    ds.add_new(0x60000010, "US", 20)
    ds.add_new(0x60000011, "US", 24)
    ds.add_new(0x60003000, "OW", bytes(60))
    ds.add_new(0x50000005, "US", 1)


@pytest.mark.parametrize("choice", ["keep", "drop"])
def test_private_data_are_kept_or_dropped_as_told(phantom, succeeds, choice):
    outcome = succeeds(phantom().write(private), "--private", choice, checks=("--private", choice))
    tags = {each.tag for derived in outcome.slices() for each in derived if each.tag.is_private}
    assert (Tag(0x0029, 0x1004) in tags) is (choice == "keep")
    assert Tag(0x0029, 0x1002) not in tags


def test_what_is_bound_to_the_old_pixels_is_dropped_and_told(phantom, succeeds):
    outcome = succeeds(phantom().write(bound), told="bound to the pixel grid, not carried into a derived series")
    for derived in outcome.slices():
        assert not {"IconImageSequence", "DigitalSignaturesSequence", "MACParametersSequence"} & set(derived.dir())


def test_inputs_are_the_same_bytes_after_a_run_that_is_refused_late(phantom, refused):
    folder = phantom().write(private)
    victim = sorted(folder.iterdir())[2]
    victim.write_bytes(victim.read_bytes()[:-100])
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    refused(folder, told=victim.name)
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()} == before
    assert pydicom.dcmread(victim, stop_before_pixels=True).PatientID == "ID-SECRET"
