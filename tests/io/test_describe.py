"""What ``describe_tree`` tells, and what it keeps to itself."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.describe import describe_tree


def test_a_series_is_summed_up_without_its_patient(phantom):
    (summary,) = describe_tree(phantom(slices=4).write(lambda ds, index: setattr(ds, "GantryDetectorTilt", "5")))
    assert (summary.kind, summary.slices, summary.matrix) == ("CT Image Storage", 4, (20, 24))
    assert summary.spacing_mm == (0.75, 0.5)
    assert summary.gaps_mm == pytest.approx((2.5, 2.5, 2.5))
    assert (summary.tilt_degrees, summary.kernel, summary.kvp) == (5, "B30", 120)
    assert summary.transfer_syntax == "Explicit VR Little Endian"
    assert summary.refused == ()
    assert "SECRET" not in json.dumps(asdict(summary)).upper()


def test_what_would_be_refused_is_said(phantom):
    folder = phantom(slices=2).write(lambda ds, index: delattr(ds, "RescaleSlope"))
    (folder / "cut").write_bytes(bytes(128) + b"DICM")
    (folder / "note.txt").write_text("hello")
    ct, other, damaged = describe_tree(folder)
    assert len(ct.refused) == 2
    assert "RescaleSlope" in ct.refused[0]
    assert (other.kind, other.slices) == ("not DICOM", 1)
    assert "cut" in damaged.refused[0]


def test_our_own_work_is_recognised(phantom, magnify, tmp_path):
    (summary,) = describe_tree(magnify(phantom().write(), tmp_path / "out"))
    assert "made by qdm-med" in summary.refused[0]


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(SeriesError, match="absent"):
        describe_tree(tmp_path / "absent")
