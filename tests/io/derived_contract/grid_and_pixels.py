"""Sections 3 and 4: the same field of view, the same HU."""

from __future__ import annotations

import numpy as np

from tests.io.derived_contract.slices import Mutate, Mutations, Rule, put
from tests.io.derived_contract.source import SCALE


def corners(ds) -> np.ndarray:
    right, down = np.array(ds.ImageOrientationPatient, float).reshape(2, 3)
    between_rows, between_columns = map(float, ds.PixelSpacing)
    first = np.array(ds.ImagePositionPatient, float)
    return np.array(
        [
            first + (column - 0.5) * between_columns * right + (row - 0.5) * between_rows * down
            for row in (0, ds.Rows)
            for column in (0, ds.Columns)
        ]
    )


def digits(pair):
    texts = [str(number.original_string) for number in [*pair.derived.PixelSpacing, *pair.derived.ImagePositionPatient]]
    return all(len(text) <= 16 for text in texts)


def spacing(pair):
    return np.allclose(
        np.array(pair.derived.PixelSpacing, float) * SCALE, np.array(pair.source.PixelSpacing, float), rtol=1e-6
    )


def padding_repeated(pair):
    source, derived = pair.stored()
    return np.array_equal(
        np.where((derived >= -2000) & (derived <= -1990), derived, 0),
        np.where((source >= -2000) & (source <= -1990), source, 0).repeat(SCALE, 0).repeat(SCALE, 1),
    )


def block_means(pair):
    source, derived = pair.stored()
    means = derived.reshape(source.shape[0], SCALE, source.shape[1], SCALE).mean((1, 3))
    return np.abs(means - source).mean() <= 2


RULES: dict[str, Rule] = {
    "3 rows and columns": lambda pair: (
        (pair.derived.Rows, pair.derived.Columns) == (SCALE * pair.source.Rows, SCALE * pair.source.Columns)
    ),
    "3 pixel spacing": spacing,
    "3 outer corners": lambda pair: np.allclose(corners(pair.derived), corners(pair.source), atol=1e-3),
    "3 short decimal strings": digits,
    "3 every slice": lambda pair: len(pair.series) == 3,
    "4 within the bits": lambda pair: pair.stored()[1].min() >= -2048 and pair.stored()[1].max() <= 2047,
    "4 padding": padding_repeated,
    "4 block means": block_means,
    "4 as many pixels": lambda pair: len(pair.derived.PixelData) == 2 * pair.derived.Rows * pair.derived.Columns,
}


def pixels(change) -> Mutate:
    def mutate(series):
        for ds in series:
            stored = np.frombuffer(ds.PixelData, "<i2").reshape(ds.Rows, ds.Columns).copy()
            ds.PixelData = change(stored).astype("<i2").tobytes()

    return mutate


def image_pixel(value):
    def change(stored):
        stored[60, 60] = value
        return stored

    return change


MUTATIONS: Mutations = [
    ("3 rows and columns", put("Rows", 20), "geom.rows_columns"),
    ("3 rows and columns", put("Columns", 24), "geom.rows_columns"),
    ("3 pixel spacing", put("PixelSpacing", [0.188, 0.125]), "geom.pixel_spacing"),
    ("3 pixel spacing", put("PixelSpacing", [0.125, 0.1875]), "geom.pixel_spacing"),
    ("3 outer corners", put("ImagePositionPatient", [-100, -80, 30]), "geom.image_position"),
    ("3 outer corners", put("ImagePositionPatient", [-100, -80, 30]), "geom.outer_corners"),
    ("3 outer corners", put("ImagePositionPatient", [-100.1875, -80.28125, 31]), "ref.same_plane_as_source"),
    ("3 outer corners", put("ImagePositionPatient", [-100.1875, -80.28125, 31]), "geom.slice_gaps_equal"),
    ("3 short decimal strings", put("PixelSpacing", ["0.18750000000000001", "0.125"]), "geom.ds_length"),
    ("3 every slice", lambda series: series.pop(), "ref.all_source_slices_covered"),
    ("4 within the bits", pixels(image_pixel(3000)), "pix.fits_bits_stored"),
    ("4 padding", pixels(image_pixel(-1995)), "pix.padding_kept"),
    ("4 padding", pixels(lambda stored: np.where(stored <= -1990, -1000, stored)), "pix.padding_kept"),
    ("4 block means", pixels(lambda stored: np.where(stored > -1990, stored + 10, stored)), "pix.hu_agrees"),
    ("4 block means", pixels(lambda stored: stored[:, ::-1]), "pix.orientation_in_plane"),
    ("4 block means", pixels(lambda stored: np.roll(stored, 4, 1)), "pix.hu_agrees"),
    ("4 as many pixels", lambda s: setattr(s[0], "PixelData", s[0].PixelData[:-2]), "pix.description"),
]
