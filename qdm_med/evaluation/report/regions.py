"""Regions of true slices that a comparison sheet enlarges: boxes of a file, of tumours say, or boxes that are found."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_erosion, uniform_filter

from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import DataError
from qdm_med.evaluation.measures.tissues import body_mask
from qdm_med.evaluation.report.pictures import choose_slices
from qdm_med.intensity import HuWindow
from qdm_med.volume import FloatArray

SHARE = 8
"""A region that is found has an eighth of the slice's side."""
SHORTEST_KEY = 8
"""Hex digits of a checksum that must be given at least."""
_NUMBERS = ("top", "left", "height", "width")


@dataclass(frozen=True)
class Region:
    """A box on a true slice.

    Attributes:
        index: Number of the slice in its store.
        top: First row, in pixels of the true slice.
        left: First column.
        height: Rows.
        width: Columns.
        label: Description; may be empty.
        window: Display window in which it is shown.
    """

    index: int
    top: int
    left: int
    height: int
    width: int
    label: str = ""
    window: HuWindow = HuWindow()

    def cut(self, image: FloatArray, scale: int = 1) -> FloatArray:
        """Cut the box out of an image whose pixels are ``scale`` times as large, pixels on its border included."""
        rows = slice(self.top // scale, -(-(self.top + self.height) // scale))
        columns = slice(self.left // scale, -(-(self.left + self.width) // scale))
        return image[rows, columns]


def read_regions(path: Path, store: SliceStore, indices: Sequence[int]) -> list[Region]:
    """Read boxes from a CSV.

    Columns ``slice`` (at least eight digits of the true slice's checksum, as in ``cases.jsonl``), ``top``, ``left``, ``height``
    and ``width`` in pixels of the true slice; optional ``label``, ``window_centre`` and ``window_width`` in HU.

    Args:
        path: The file.
        store: Slices.
        indices: Slices of the benchmark; a box on any other is refused.

    Raises:
        DataError: If the file cannot be read, names a slice that is not in the benchmark, or a box does not fit its slice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error}); give a CSV with the columns slice, {_TITLES}") from None
    if not rows or not {"slice", *_NUMBERS} <= set(rows[0]):
        raise DataError(f"{path}: needs the columns slice, {_TITLES} and at least one row")
    by_key = {store.records[index].sha256: index for index in indices}
    return [_region(row, f"{path} line {line}", by_key, store.slice_shape) for line, row in enumerate(rows, start=2)]


_TITLES = ", ".join(_NUMBERS)


def _region(row: dict[str, str], where: str, by_key: dict[str, int], shape: tuple[int, int]) -> Region:
    key = (row["slice"] or "").strip().lower()
    found = [index for checksum, index in by_key.items() if len(key) >= SHORTEST_KEY and checksum.startswith(key)]
    if len(found) != 1:
        raise DataError(
            f"{where}: {key!r} is the checksum of {len(found)} slices of the benchmark; give {SHORTEST_KEY} digits or more, "
            "as in cases.jsonl"
        )
    try:
        top, left, height, width = (int(row[name]) for name in _NUMBERS)
        window = HuWindow(float(row.get("window_centre") or 40), float(row.get("window_width") or 400))
    except (TypeError, ValueError) as error:
        raise DataError(f"{where}: {error}; {_TITLES} are whole pixels, windows positive HU") from None
    if top < 0 or left < 0 or min(height, width) < 1 or top + height > shape[0] or left + width > shape[1]:
        raise DataError(f"{where}: the box leaves its slice of {shape[0]} x {shape[1]} pixels")
    return Region(found[0], top, left, height, width, (row.get("label") or "").strip(), window)


def find_region(index: int, hu: FloatArray) -> Region:
    """Find the square of a true slice with the most soft-tissue detail in the body."""
    side = max(8, hu.shape[0] // SHARE)
    shown = HuWindow().to_unit(hu)
    within = binary_erosion(body_mask(hu), iterations=max(2, hu.shape[0] // 64))  # the skin is an edge on every slice
    steps = np.abs(np.gradient(shown)).sum(axis=0) * within
    detail = uniform_filter(steps, side, mode="constant")
    half = side // 2
    inner = detail[half : hu.shape[0] - side + half + 1, half : hu.shape[1] - side + half + 1]
    top, left = np.unravel_index(int(inner.argmax()), inner.shape)
    return Region(index, int(top), int(left), side, side, "most detail")


def sheet_regions(store: SliceStore, indices: Sequence[int], file: Path | None) -> list[Region]:
    """Boxes of a file, or one found on each slice of the report."""
    if file is not None:
        return read_regions(file, store, indices)
    return [find_region(index, store.hu(index).astype(np.float32)) for index in choose_slices(store, indices)]
