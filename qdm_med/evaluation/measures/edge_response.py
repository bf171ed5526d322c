"""Edge response: modulation transfer across the edges of the reference (ISO 12233's method).

Long, isolated, straight edges between flat sides are looked for in the reference; both images are read across the same
edges, so that the ratio of the two says what became of the sharpness.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter
from scipy.signal.windows import tukey
from skimage.feature import canny

from qdm_med.volume import FloatArray

Floats = NDArray[np.float64]

SMALLEST_STEP_HU = 150.0
"""Lower edges drown in noise."""
REACH_PX = 8.0
"""Pixels read on each side of an edge."""
STEP_PX = 0.25
"""Distance between readings."""
FLAT_SHARE = 0.15
"""Largest standard deviation on either side of an edge, as a share of its step."""
MOST_EDGES = 400
FEWEST_EDGES = 12

_OFFSETS = np.arange(-REACH_PX, REACH_PX + STEP_PX / 2, STEP_PX)
_SIDE = int(4 / STEP_PX)
"""Readings at either end, beyond 4 pixels from the edge, that must be flat."""


@dataclass(frozen=True)
class EdgeResponse:
    """Contrast left of a pattern, by its frequency.

    Attributes:
        frequency: ``(F,)`` cycles a pixel.
        mtf: ``(F,)``, 1 at frequency 0.
        edges: Edge points behind it.
    """

    frequency: Floats
    mtf: Floats
    edges: int

    @property
    def mtf50(self) -> float:
        """Frequency in cycles a pixel at which half of the contrast is left; NaN if it never falls so far."""
        below = np.flatnonzero(self.mtf < 0.5)
        if not len(below) or below[0] == 0:
            return float("nan")
        upper = int(below[0])
        lower = upper - 1
        share = (self.mtf[lower] - 0.5) / (self.mtf[lower] - self.mtf[upper])
        return float(self.frequency[lower] + share * (self.frequency[upper] - self.frequency[lower]))


@dataclass(frozen=True)
class EdgeSet:
    """Edge points of a reference.

    Attributes:
        rows: ``(N,)`` rows of the points, on the middle of their edges.
        columns: ``(N,)`` columns.
        normals: ``(N, 2)`` unit vectors (row, column) towards the higher HU.
        steps: ``(N, 2)`` HU of the lower and of the higher side.
    """

    rows: Floats
    columns: Floats
    normals: Floats
    steps: Floats

    def __len__(self) -> int:
        """Count the points."""
        return len(self.rows)


def find_edges(reference_hu: FloatArray) -> EdgeSet:
    """Find isolated edges of at least 150 HU between flat sides, at most 400 points spread over the slice."""
    image = reference_hu.astype(np.float64)
    thresholds = SMALLEST_STEP_HU / 4, SMALLEST_STEP_HU / 2
    found = canny(image, sigma=1.5, low_threshold=thresholds[0], high_threshold=thresholds[1])  # type: ignore[no-untyped-call]  # scikit-image
    rows, columns = np.nonzero(found)
    margin = REACH_PX + 2
    height, width = image.shape
    inside = (rows >= margin) & (rows < height - margin) & (columns >= margin) & (columns < width - margin)
    rows, columns = rows[inside], columns[inside]
    normals = _normals(image, rows, columns)
    profiles = _profiles(spline_filter(image, order=3), rows, columns, normals)
    low, high = profiles[:, :_SIDE].mean(axis=1), profiles[:, -_SIDE:].mean(axis=1)
    step = high - low
    flat = np.maximum(profiles[:, :_SIDE].std(axis=1), profiles[:, -_SIDE:].std(axis=1)) < FLAT_SHARE * step
    offset = _crossings(profiles, (low + high) / 2)
    good = np.flatnonzero((step >= SMALLEST_STEP_HU) & flat & (np.abs(offset) < 1.5))
    good = good[np.linspace(0, len(good) - 1, min(len(good), MOST_EDGES)).round().astype(int)] if len(good) else good
    moved = offset[good, None] * normals[good]
    return EdgeSet(
        rows[good] + moved[:, 0], columns[good] + moved[:, 1], normals[good], np.stack([low[good], high[good]], axis=1)
    )


def edge_response(hu: FloatArray, edges: EdgeSet) -> EdgeResponse | None:
    """Mean edge, its derivative, and the Fourier transform of that; ``None`` for fewer than 12 edge points."""
    if len(edges) < FEWEST_EDGES:
        return None
    profiles = _profiles(spline_filter(hu.astype(np.float64), order=3), edges.rows, edges.columns, edges.normals)
    low, high = edges.steps.T
    spread = ((profiles - low[:, None]) / (high - low)[:, None]).mean(axis=0)
    # Flat over the inner three quarters: a window that is not would make wide edges narrower.
    line = np.diff(spread) * tukey(len(spread) - 1, 0.25)
    if abs(line.sum()) < 0.1:
        return None
    transfer: Floats = np.abs(np.fft.rfft(line, 4 * len(line)))
    frequency: Floats = np.fft.rfftfreq(4 * len(line), STEP_PX).astype(np.float64)
    kept = frequency <= 0.5
    mtf: Floats = np.asarray(transfer[kept] / transfer[0], dtype=np.float64)
    return EdgeResponse(frequency[kept], mtf, len(edges))


def _normals(image: Floats, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Floats:
    by_row, by_column = (gaussian_filter(image, 1.5, order=order)[rows, columns] for order in ((1, 0), (0, 1)))
    length = np.maximum(np.hypot(by_row, by_column), 1e-9)
    return np.stack([by_row / length, by_column / length], axis=1)


def _profiles(spline: Floats, rows: NDArray[np.generic], columns: NDArray[np.generic], normals: Floats) -> Floats:
    """Read ``(N, offsets)`` HU along the normals."""
    places = np.stack([rows[:, None] + normals[:, :1] * _OFFSETS, columns[:, None] + normals[:, 1:] * _OFFSETS])
    read: Floats = map_coordinates(spline, places, order=3, mode="nearest", prefilter=False)
    return read


def _crossings(profiles: Floats, level: Floats) -> Floats:
    """Offset near the middle at which each profile first rises through its level; infinite if it never does."""
    above = profiles >= level[:, None]
    rises = ~above[:, :-1] & above[:, 1:]
    distance = np.where(rises, np.abs(_OFFSETS[:-1]), np.inf)
    at = distance.argmin(axis=1)
    index = np.arange(len(profiles))
    lower, upper = profiles[index, at], profiles[index, at + 1]
    share = (level - lower) / np.where(upper > lower, upper - lower, 1.0)
    return np.where(np.isfinite(distance[index, at]), _OFFSETS[at] + share * STEP_PX, np.inf)
