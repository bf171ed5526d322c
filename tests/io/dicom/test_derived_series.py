"""A derived series on disk: pixels, padding, resuming, atomicity, places."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from qdm_med.errors import ConfigError, SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.io.write import default_output, open_writer

DERIVATION = Derivation(4, "nearest", "0" * 64)
SYNTAXES = [
    *(ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian),
    *(RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless, JPEG2000),
]


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def repeated(volume, index, scale=4):
    return volume.slices[index].hu.repeat(scale, 0).repeat(scale, 1)


def mark_padding(value):
    """An edit that makes three rows and two columns padding."""

    def edit(ds, index):
        stored = np.frombuffer(ds.PixelData, "<i2" if ds.PixelRepresentation else "<u2").reshape(ds.Rows, ds.Columns)
        stored = stored.copy()
        stored[:3], stored[:, -2:] = value, value
        ds.PixelData = stored.tobytes()

    return edit


def write_and_stop(volume, out, stop):
    with open_writer(volume, out, DERIVATION) as writer:
        writer.write(1, repeated(volume, 1))
        raise stop


def interrupt(volume, out):
    with pytest.raises(KeyboardInterrupt):
        write_and_stop(volume, out, KeyboardInterrupt)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda uid: uid.name)
def test_pixels_of_every_encoding_arrive_as_pydicom_decodes_them(phantom, magnify, outputs, tmp_path, syntax, signed):
    source = phantom(slices=2, rows=64, columns=72, signed=signed, syntax=syntax).write()
    before = digests(source)
    originals = sorted(outputs(source), key=lambda ds: ds.InstanceNumber)
    for original, derived in zip(originals, outputs(magnify(source, tmp_path / "out")), strict=True):
        np.testing.assert_array_equal(derived.pixel_array, original.pixel_array.repeat(4, 0).repeat(4, 1))
        assert derived.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert derived.get("LossyImageCompression", "00") == (
            "01" if syntax in (JPEG2000, JPEGLSNearLossless) else "00"
        )
    assert digests(source) == before


@pytest.mark.parametrize("name", ["rle", "jpeg-ls", "jpeg-2000", "htj2k"])
@pytest.mark.parametrize("signed", [False, True])
def test_outputs_can_be_compressed_without_loss(phantom, magnify, outputs, tmp_path, name, signed):
    source = phantom(slices=1, signed=signed, bits=16 if signed else 12, intercept=0.0).write()
    plain, packed = (
        outputs(magnify(source, tmp_path / syntax, transfer_syntax=syntax))[0] for syntax in ("explicit", name)
    )
    assert packed.file_meta.TransferSyntaxUID.is_compressed
    np.testing.assert_array_equal(packed.pixel_array, plain.pixel_array)


def test_bits_above_the_high_bit_are_cleared(phantom, magnify, outputs, tmp_path):
    def edit(ds, index):
        ds.PixelData = (np.frombuffer(ds.PixelData, "<u2") | 0x8000).tobytes()

    made = phantom(slices=1)
    volume = read_volume(made.write(edit))
    np.testing.assert_array_equal(volume.slices[0].hu, made.hu(0))
    derived = outputs(magnify(made.folder, tmp_path / "out"))[0]
    assert np.frombuffer(derived.PixelData, "<u2").max() < 4096


@pytest.mark.parametrize(
    ("value", "declare"),
    [
        (-2000, lambda ds, index: ds.add_new("PixelPaddingValue", "SS", -2000)),
        (-2000, lambda ds, index: ds.add_new("PixelPaddingValue", "US", 63536)),
        (-3024, lambda ds, index: None),
    ],
)
def test_padding_is_repeated_exactly_and_nothing_else_becomes_padding(phantom, outputs, tmp_path, value, declare):
    def edit(ds, index):
        mark_padding(value)(ds, index)
        declare(ds, index)

    volume = read_volume(phantom(slices=1, signed=True, bits=16, intercept=0.0).write(edit))
    padding = volume.slices[0].padding
    assert padding.sum() == 3 * 24 + 17 * 2
    with open_writer(volume, tmp_path / "out", DERIVATION) as writer:
        writer.write(0, np.full((80, 96), float(value), np.float32))
        out = writer.commit()
    np.testing.assert_array_equal(outputs(out)[0].pixel_array == value, padding.repeat(4, 0).repeat(4, 1))


def test_a_killed_run_is_taken_up_as_the_same_series(phantom, outputs, tmp_path):
    volume = read_volume(phantom().write())
    out = tmp_path / "out"
    interrupt(volume, out)
    assert not out.exists()
    with open_writer(volume, out, DERIVATION) as writer:
        assert writer.finished == {1}
        for index in (0, 2):
            writer.write(index, repeated(volume, index))
        writer.commit()
    assert len({(ds.SeriesInstanceUID, ds.SeriesTime) for ds in outputs(out)}) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_another_job_begins_afresh(phantom, tmp_path):
    volume = read_volume(phantom().write())
    interrupt(volume, tmp_path / "out")
    for derivation, options in [(Derivation(4, "other", "1" * 64), {}), (DERIVATION, {"private": "drop"})]:
        with open_writer(volume, tmp_path / "out", derivation, WriterOptions(**options)) as writer:
            assert writer.finished == frozenset()


@pytest.mark.parametrize("error", [SeriesError, ConfigError])
def test_an_error_of_ours_leaves_nothing(phantom, tmp_path, error):
    volume = read_volume(phantom().write())
    with pytest.raises(error):
        write_and_stop(volume, tmp_path / "out", error)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_slice_appears_whole_or_not_at_all(phantom, tmp_path, monkeypatch):
    volume = read_volume(phantom().write())
    writer = open_writer(volume, tmp_path / "out", DERIVATION)

    def killed(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt), writer:
        writer.write(0, repeated(volume, 0))
    monkeypatch.undo()
    with open_writer(volume, tmp_path / "out", DERIVATION) as again:
        assert again.finished == frozenset()


def test_an_incomplete_series_is_not_committed(phantom, tmp_path):
    volume = read_volume(phantom().write())
    writer = open_writer(volume, tmp_path / "out", DERIVATION)
    with pytest.raises(SeriesError, match="3 slices were not written"), writer:
        writer.commit()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("hu", [np.zeros((4, 4), np.float32), np.full((80, 96), np.nan, np.float32)])
def test_images_that_cannot_be_right_are_refused(phantom, tmp_path, hu):
    volume = read_volume(phantom().write())
    writer = open_writer(volume, tmp_path / "out", DERIVATION)
    with pytest.raises(SeriesError, match="slice 0"), writer:
        writer.write(0, hu)


def test_places_that_are_taken_are_refused_and_left_alone(phantom, magnify, tmp_path):
    source = phantom().write()
    (tmp_path / "file").write_text("precious")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("precious")
    for out, complaint in [
        (tmp_path / "file", "a file is in the way"),
        (tmp_path / "file" / "below", "is a file, not a folder"),
        (tmp_path / "full", "not empty"),
    ]:
        with pytest.raises(SeriesError, match=complaint):
            magnify(source, out)
    with pytest.raises(SeriesError, match=r"thesis\.tex"):
        magnify(source, tmp_path / "full", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "full", "in"]
    assert (tmp_path / "full" / "thesis.tex").read_text() == "precious"


def test_an_empty_folder_may_be_there_already(phantom, magnify, tmp_path):
    (tmp_path / "out").mkdir()
    assert len(list(magnify(phantom().write(), tmp_path / "out").iterdir())) == 3


def test_overwriting_replaces_an_earlier_output_and_never_the_input(phantom, magnify, outputs, tmp_path):
    source = phantom().write()
    first = {ds.SOPInstanceUID for ds in outputs(magnify(source, tmp_path / "out"))}
    second = {ds.SOPInstanceUID for ds in outputs(magnify(source, tmp_path / "out", overwrite=True))}
    assert not first & second
    for file in source.iterdir():
        file.rename(source / f"0000{file.name[-1]}.dcm")
    before = digests(source)
    with pytest.raises(SeriesError, match="holds the input itself"):
        magnify(source, source, overwrite=True)
    assert digests(source) == before


def test_an_output_inside_the_input_is_not_read_as_input(phantom, magnify, tmp_path):
    source = phantom().write()
    out = source / "derived"
    magnify(source, out, exclude=out)
    assert len(read_volume(source, exclude=out)) == 3
    again = read_volume(source)  # known as our own work even where nobody excludes it
    assert len(again) == 3


def test_our_own_output_is_refused_unless_forced(phantom, magnify, tmp_path):
    out = magnify(phantom().write(), tmp_path / "out")
    with pytest.raises(SeriesError, match="made by qdm-med"):
        read_volume(out)
    assert read_volume(out, force=True).geometry.shape == (3, 80, 96)


def test_an_image_too_large_for_dicom_is_refused(phantom, tmp_path):
    volume = read_volume(phantom(slices=1, rows=2, columns=9000).write())
    with pytest.raises(SeriesError, match="65535"):
        open_writer(volume, tmp_path / "out", Derivation(8, "nearest", "0" * 64))


@pytest.mark.parametrize("option", ["private", "equipment", "transfer_syntax"])
def test_unknown_options_are_refused(phantom, tmp_path, option):
    volume = read_volume(phantom(slices=1).write())
    with pytest.raises(ConfigError, match=option):
        open_writer(volume, tmp_path / "out", DERIVATION, WriterOptions(**{option: "nonsense"}))


def test_outputs_are_named_after_their_input(tmp_path):
    for name, expected in [
        ("a.nii.gz", "a-srx4.nii.gz"),
        ("b.MHA", "b-srx4.mha"),
        ("c.mhd", "c-srx4.mha"),
        ("d.dcm", "d-srx4"),
        ("e", "e-srx4"),
    ]:
        assert default_output(tmp_path / name, 4) == tmp_path.resolve() / expected


def test_a_missing_encoder_is_named_with_its_extra_before_anything_is_written(phantom, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    volume = read_volume(phantom(slices=1).write())
    with pytest.raises(ConfigError, match=r"extra htj2k: pip install 'qdm-med\[htj2k\]'"):
        open_writer(volume, tmp_path / "out", DERIVATION, WriterOptions(transfer_syntax="htj2k"))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
