"""Where slices lie: missing, uneven, doubled, tilted, oblique, odd sizes; and places that are none."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

OBLIQUE = (0.8, 0.6, 0.0, -0.36, 0.48, 0.8)


def only(wanted, keyword, value):
    return lambda ds, index: setattr(ds, keyword, value) if index == wanted else None


def every(keyword, value):
    return lambda ds, index: setattr(ds, keyword, value)


def without(keyword, *indices):
    return lambda ds, index: delattr(ds, keyword) if not indices or index in indices else None


MET = {
    "a missing slice": ({"slices": 4}, only(3, "ImagePositionPatient", [-100, -80, 60]), "slices are missing"),
    "uneven gaps": ({"slices": 4}, only(1, "ImagePositionPatient", [-100, -80, 31.3]), "unevenly spaced"),
    "two slices at one place": ({"slices": 4}, only(1, "ImagePositionPatient", [-100, -80, 30]), "where another one"),
    "a tilted gantry": ({"step": (0.0, 0.8, 2.5)}, every("GantryDetectorTilt", "17.5"), "gantry tilt of 17.5"),
    "a tilted gantry that nobody states": ({"step": (0.0, 0.8, 2.5)}, None, "shifted against each other"),
    "oblique": ({"orientation": OBLIQUE}, None, "oblique slices"),
    "sagittal": ({"orientation": (0, 1, 0, 0, 0, -1)}, None, ""),
    "not square": ({"rows": 40, "columns": 51}, None, ""),
    "17 x 23": ({"rows": 17, "columns": 23}, None, ""),
    "one slice": ({"slices": 1}, None, ""),
    "anisotropic": ({"spacing": (1.5, 0.2)}, None, ""),
    "spacing of many digits": ({"spacing": (0.16537109375, 0.33333333)}, None, ""),
    "an orientation of its own": (
        {"slices": 4},
        only(3, "ImageOrientationPatient", [0.9999619, 0.0087265, 0, -0.0087265, 0.9999619, 0]),
        "orientation varies",
    ),
    "no thickness": ({}, every("SliceThickness", None), ""),
    "no instance numbers": ({}, every("InstanceNumber", None), ""),
}


@pytest.mark.parametrize("case", MET)
def test_odd_geometry_is_met_slice_by_slice(phantom, succeeds, case):
    fields, edit, told = MET[case]
    made = phantom(**fields)
    outcome = succeeds(made.write(edit or (lambda ds, index: None)), told=told, slices=made.slices)
    assert [(each.Rows, each.Columns) for each in outcome.slices()] == [(4 * made.rows, 4 * made.columns)] * made.slices


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 40), (8, 9)])
def test_an_image_smaller_than_the_network_s_window_is_met(phantom, attempt, rows, columns):
    made = phantom(rows=rows, columns=columns, slices=1)
    (derived,) = attempt(made.write()).slices()
    assert (derived.Rows, derived.Columns) == (4 * rows, 4 * columns)


def test_a_slice_of_512_x_400_is_met(phantom, magnify, failed_rows, tmp_path):
    source = phantom(rows=512, columns=400, slices=1).write()
    out = magnify(source, tmp_path / "out")  # the network would take ten seconds
    assert [(ds.Rows, ds.Columns) for ds in map(pydicom.dcmread, out.iterdir())] == [(2048, 1600)]
    if failed_rows is not None:
        assert failed_rows(source, out) == []


def test_the_order_is_that_of_places(phantom, succeeds):
    folder = phantom(slices=5).write(lambda ds, index: setattr(ds, "InstanceNumber", 9 - index))
    places = [float(each.ImagePositionPatient[2]) for each in succeeds(folder, slices=5).slices()]
    np.testing.assert_allclose(np.diff(places), 2.5)


REFUSED = {
    "PixelSpacing absent": without("PixelSpacing"),
    "PixelSpacing 0\\0": every("PixelSpacing", [0, 0]),
    "PixelSpacing -1": every("PixelSpacing", [-1, 1]),
    "ImagePositionPatient is absent": without("ImagePositionPatient", 1),
    "ImageOrientationPatient is absent": without("ImageOrientationPatient", 2),
    "not two unit vectors": every("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]),
    "Rows 0": every("Rows", 0),
    "2 Frames of Reference": only(1, "FrameOfReferenceUID", "1.2.3"),
    "slices of 2 patients": only(1, "PatientID", "ANOTHER-SECRET"),
}


@pytest.mark.parametrize("complaint", REFUSED)
def test_places_that_are_none_are_refused(phantom, refused, complaint):
    refused(phantom().write(REFUSED[complaint]), told=complaint)


def test_slices_of_different_sizes_are_refused(phantom, refused):
    def half(ds, index):
        if index == 1:
            ds.Rows, ds.PixelData = ds.Rows // 2, ds.PixelData[: len(ds.PixelData) // 2]

    refused(phantom().write(half), told="slices of different sizes (10x24, 20x24)")
