"""Damaged DICOM in: a derived series or one line out, never anything else.

``QDM_MED_FUZZ_MUTATIONS`` sets the number of mutants (500 unless told), ``QDM_MED_FUZZ_SEED`` the first of them.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from qdm_med.errors import QdmMedError
from qdm_med.io.describe import describe_tree

MUTATIONS = int(os.environ.get("QDM_MED_FUZZ_MUTATIONS", "500"))
FIRST = int(os.environ.get("QDM_MED_FUZZ_SEED", "0"))
BATCHES = 10
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless, JPEGLSLossless)
VRS = (b"US", b"SS", b"UL", b"FD", b"OB", b"OW", b"UN", b"SQ", b"AT", b"DS", b"IS", b"PN", b"UI", b"ZZ", b"\0\0")
LENGTHS = (0, 1, 3, 7, 255, 4096, 2**31 - 1, 0xFFFE, 0xFFFFFFFF)
SECRET = "SECRET"


def nested(ds, index):
    inner = Dataset()
    inner.PatientName, inner.ReferencedSOPInstanceUID = "Secret^Inner", "1.2.3"
    ds.ReferencedImageSequence = [inner]
    block = ds.private_block(0x0029, "ACME 1.1", create=True)
    block.add_new(1, "OB", bytes(20))
    block.add_new(2, "SQ", [inner])
    ds.add_new("PixelPaddingValue", "US", 0)
    ds.DerivationDescription, ds.TimezoneOffsetFromUTC, ds.LossyImageCompression = "earlier", "+0100", "00"


@dataclass(frozen=True)
class Seeds:
    """Good files as bytes: one slice in every syntax, and the next slice of the same series."""

    slices: list[bytes]
    companion: bytes


@pytest.fixture(scope="module")
def seeds(phantom_at, tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")

    def made(name, syntax):
        source = phantom_at(folder / name, slices=2, rows=8, columns=10, syntax=syntax).write(nested)
        return [path.read_bytes() for path in sorted(source.iterdir())]

    return Seeds(
        [made(str(number), syntax)[0] for number, syntax in enumerate(SYNTAXES)],
        made("next", ExplicitVRLittleEndian)[1],
    )


def flipped(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.integers(1, 9)):
        position = int(rng.integers(132, header if rng.random() < 0.8 else len(content)))
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def truncated(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    return content[: int(rng.integers(len(content)))]


def overwritten(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start = int(rng.integers(132, header))
    return content[:start] + rng.bytes(int(rng.integers(1, 9))) + content[start + int(rng.integers(9)) :]


def elements(content: bytes) -> list[tuple[int, int]]:
    """Start and end of every top-level element of a Little Endian file, as far as they can be followed."""
    found, place, explicit = [], 132, True
    syntax = content[132 : 132 + 400]
    implicit = b"1.2.840.10008.1.2\0" in syntax
    while place + 8 <= len(content):
        group, _ = struct.unpack_from("<HH", content, place)
        explicit = group == 2 or not implicit
        long = explicit and content[place + 4 : place + 6] in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF", b"UC")
        form, offset, head = ("<I", 8, 12) if long else ("<H", 6, 8) if explicit else ("<I", 4, 8)
        if place + head > len(content):
            break
        (length,) = struct.unpack_from(form, content, place + offset)
        end = place + head + length
        if length == 0xFFFFFFFF or end > len(content):
            break
        found.append((place, end))
        place = end
    return found


def element_removed(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start, end = rng.choice(elements(content))
    return content[:start] + content[end:]


def element_doubled(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start, end = rng.choice(elements(content))
    return content[:end] + content[start:end] + content[end:]


def element_moved(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    (start, end), (target, _) = rng.choice(elements(content), 2)
    rest = content[:start] + content[end:]
    return rest[:target] + content[start:end] + rest[target:]


def value_replaced(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start, end = rng.choice(elements(content))
    room = max(0, end - start - 8)
    texts = (b"9" * room, b"-" * room, b"\\" * room, b"\xff" * room, b"nan\\inf\\1e999"[:room].ljust(room), bytes(room))
    return content[: end - room] + texts[rng.integers(len(texts))] + content[end:]


def vr_changed(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start, _ = rng.choice(elements(content))
    return content[: start + 4] + VRS[rng.integers(len(VRS))] + content[start + 6 :]


def length_changed(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    start, _ = rng.choice(elements(content))
    length = LENGTHS[rng.integers(len(LENGTHS))]
    if rng.random() < 0.5:
        return content[: start + 6] + struct.pack("<H", length & 0xFFFF) + content[start + 8 :]
    place = start + int(rng.choice([4, 8]))
    return content[:place] + struct.pack("<I", length) + content[place + 4 :]


def attribute_set(content: bytes, rng: np.random.Generator, header: int) -> bytes:
    """A well-formed file with a value that makes no sense."""
    with pydicom.config.disable_value_validation():
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(content))
        keyword, value = ODD_VALUES[rng.integers(len(ODD_VALUES))]
        vr = pydicom.datadict.dictionary_VR(keyword)
        ds.add_new(keyword, "SS" if isinstance(value, int) and value < 0 else vr.split(" ")[0], value)
        out = pydicom.filebase.DicomBytesIO()
        pydicom.dcmwrite(out, ds)
    return out.getvalue()


ODD_VALUES = (
    *((keyword, value) for keyword in ("Rows", "Columns") for value in (0, 1, 9, 65535)),
    *((keyword, value) for keyword in ("BitsStored", "HighBit", "BitsAllocated") for value in (0, 1, 7, 15, 17, 64)),
    *(("PixelRepresentation", value) for value in (1, 2)),
    *(("SamplesPerPixel", value) for value in (0, 3)),
    *((keyword, value) for keyword in ("RescaleSlope", "RescaleIntercept") for value in ("1e300", "-1", "1e-300")),
    *(("PixelSpacing", value) for value in (["1e-300", "1"], ["1e300", "1"], ["-1", "1"], ["1"], ["1", "1", "1"])),
    *(("ImagePositionPatient", value) for value in (["1e300", "0", "0"], ["0", "0"], ["1e15", "1e-15", "0"])),
    ("ImageOrientationPatient", ["0", "0", "0", "0", "0", "0"]),
    *(("PixelPaddingValue", value) for value in (65535, -32768, 0)),
    *(("SeriesNumber", value) for value in ("2147483647", "-2147483648")),
    *(("NumberOfFrames", value) for value in ("0", "2", "-1")),
    *(("TimezoneOffsetFromUTC", value) for value in ("+9999", "UTC", "+01", "-0000", "+1500")),
    *(("SpecificCharacterSet", value) for value in ("ISO_IR 192", "ISO 2022 IR 58", "nonsense", ["\\", "ISO_IR 6"])),
    *(("SOPInstanceUID", value) for value in ("../../escape", "1" * 70, "x\ny", "")),
    *(("SeriesInstanceUID", value) for value in ("../../escape", "", "a\\b")),
    *(("SeriesDescription", value) for value in ("x" * 300, "\x1b$B;3", "")),
    *(("DerivationDescription", value) for value in ("x" * 2000, "")),
    *((keyword, []) for keyword in ("ContributingEquipmentSequence", "ReferencedSeriesSequence")),
    *((keyword, [Dataset()]) for keyword in ("ContributingEquipmentSequence", "ReferencedSeriesSequence")),
    *((keyword, [Dataset()]) for keyword in ("DerivationCodeSequence", "SourceImageSequence")),
    ("PhotometricInterpretation", "PALETTE COLOR"),
    ("ImageType", []),
    ("PixelData", b""),
    ("PixelData", bytes(2)),
    ("PixelData", bytes(4096)),
)
MUTATORS = (
    flipped,
    truncated,
    overwritten,
    element_removed,
    element_doubled,
    element_moved,
    value_replaced,
    vr_changed,
    length_changed,
    attribute_set,
)


def mutant(seeds: Seeds, number: int) -> bytes:
    """Mutant ``number``; the same on every machine."""
    rng = np.random.default_rng([2026, number])
    content = seeds.slices[rng.integers(len(seeds.slices))]
    mutator = MUTATORS[rng.integers(len(MUTATORS))]
    pixels = content.find(b"\x7f\xe0\x00\x10") if mutator is flipped else content.find(b"\xe0\x7f\x10\x00")
    header = pixels if pixels > 0 else len(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return mutator(content, rng, header)
        except (ValueError, AttributeError, TypeError, KeyError, struct.error):  # a value that no file can hold
            return truncated(content, rng, header)


def refusal(source: Path, out: Path, magnify, skip_bad: bool) -> str:
    """The line that says why a folder is refused; empty if it is derived."""
    try:
        describe_tree(source)
        magnify(source, out, skip_bad=skip_bad)
    except QdmMedError as error:
        return str(error)
    return ""


def survives(source: Path, magnify, outputs, caplog, skip_bad: bool) -> bool:
    """Whether a folder is derived; fails if it is neither that nor refused as it should be."""
    before = digests(source)
    caplog.clear()
    told = refusal(source, source.parent / "out", magnify, skip_bad)
    assert not caplog.records
    assert "\n" not in told
    assert SECRET not in told.upper()
    assert len(told) < 600
    assert digests(source) == before
    assert sorted(path.name for path in source.parent.iterdir()) == (["in"] if told else ["in", "out"])
    if not told:
        with warnings.catch_warnings(), pydicom.config.disable_value_validation():
            warnings.simplefilter("ignore")  # odd values of the source are the source's
            for ds in outputs(source.parent / "out"):
                assert len(ds.PixelData) == 2 * ds.Rows * ds.Columns
                assert ds.ImageType[:2] == ["DERIVED", "SECONDARY"]
    return not told


def digests(folder: Path) -> dict[str, bytes]:
    return {path.name: hashlib.sha256(path.read_bytes()).digest() for path in folder.iterdir()}


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_damaged_file_is_derived_or_refused_in_one_line(seeds, magnify, outputs, tmp_path, caplog, batch):
    numbers = range(FIRST + batch, FIRST + MUTATIONS, BATCHES)
    derived, failures = 0, []
    for number in numbers:
        source = tmp_path / str(number) / "in"
        source.mkdir(parents=True)
        (source / "mutant").write_bytes(mutant(seeds, number))
        if number % 3 == 0:
            (source / "good").write_bytes(seeds.companion)
        try:
            derived += survives(source, magnify, outputs, caplog, skip_bad=number % 2 == 1)
        except Exception as error:
            failures.append(f"mutant {number}: {type(error).__name__}: {error}")
        shutil.rmtree(source.parent)
    assert not failures, "\n".join(failures)
    if len(numbers) >= 40:
        assert 0 < derived < len(numbers)  # both outcomes are met
