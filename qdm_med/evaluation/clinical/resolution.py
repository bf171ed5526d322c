"""Resolution: the rims of four inserts (edge response), and line pairs up to the limit of the source's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.scan import FineGrid, Floats, Scan, scanned
from qdm_med.evaluation.clinical.transfer import insert_transfer
from qdm_med.volume import FloatArray

SIDE = 128
BACKGROUND_HU = 40.0
QUARTERS = ((31.5, 31.5), (31.5, 95.5), (95.5, 31.5), (95.5, 95.5))
"""Middles of the quarters of a slice, row and column in source pixels."""

INSERTS_HU = (-880.0, -110.0, 350.0, 950.0)
"""Lung, fat, contrast medium and bone."""

INSERT_RADIUS = 19.0
EDGE_SCAN = Scan(1.2, 4.0)

LINE_PAIRS = (0.2, 0.3, 0.4, 0.45)
"""Line pairs a source pixel; above 0.5 the source holds none."""

BAR_HU = 640.0
BAR_RADIUS = 22.0
BAR_CORE = 17.0
BAR_SCAN = Scan(1.0, 4.0)


def line_pair_measure(line_pairs: float) -> str:
    """Name of the modulation at a frequency."""
    return f"line_pairs_{line_pairs:g}"


@dataclass(frozen=True)
class EdgeCase:
    """Inserts of four tissues, whose rims show the edge response."""

    scale: int
    low_hu: FloatArray
    truth_hu: FloatArray
    title: str = "edge response, inserts of lung, fat, contrast medium and bone"

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Measure the edge response of every insert."""
        for row, column in QUARTERS:
            found = insert_transfer(hu.astype(np.float64), row, column, INSERT_RADIUS, self.scale)
            before = insert_transfer(self.low_hu.astype(np.float64), row, column, INSERT_RADIUS, 1)
            yield Finding("mtf50", found.mtf50 if found else 0.0)
            yield Finding("mtf10", found.mtf10 if found else 0.0)
            yield Finding("overshoot", found.overshoot if found else 1.0)
            if before is not None:
                yield Finding("mtf50_source", before.mtf50)
                yield Finding("mtf10_source", before.mtf10)


@dataclass(frozen=True)
class LinePairCase:
    """Line pairs of four frequencies, whose modulation shows the resolution.

    Attributes:
        scale: Magnification.
        low_hu: As scanned.
        truth_hu: As drawn.
        angle: Direction of the bars' normal in radians.
        title: Description for people.
    """

    scale: int
    low_hu: FloatArray
    truth_hu: FloatArray
    angle: float
    title: str = "line pairs of 0.2 to 0.45 a source pixel"

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Share of the true modulation left at each frequency; an excess beyond 1 counts as much against a method."""
        grid = FineGrid(SIDE, self.scale)
        for (row, column), line_pairs in zip(QUARTERS, LINE_PAIRS, strict=True):
            core = grid.disc(row, column, BAR_CORE)
            phase = 2 * np.pi * line_pairs * _across(grid, row, column, self.angle)[core]
            share = _modulation(hu[core], phase) / _modulation(self.truth_hu[core], phase)
            yield Finding(line_pair_measure(line_pairs), min(share, 2 - share))


def _modulation(values: FloatArray, phase: Floats) -> float:
    """Amplitude of the fundamental, in phase: bars that moved or turned do not count."""
    pattern = np.sin(phase)
    return float(((values - values.mean(dtype=np.float64)) * pattern).sum() / np.square(pattern).sum())


def _across(grid: FineGrid, row: float, column: float, angle: float) -> Floats:
    """Distance of every pixel from a place along the bars' normal, in source pixels."""
    return (grid.rows - row) * np.sin(angle) + (grid.columns - column) * np.cos(angle)


def edge_case(scale: int, rng: np.random.Generator) -> EdgeCase:
    """Scan the inserts."""
    grid = FineGrid(SIDE, scale)
    truth = grid.flat(BACKGROUND_HU)
    for (row, column), hu in zip(QUARTERS, INSERTS_HU, strict=True):
        truth[grid.disc(row, column, INSERT_RADIUS)] = hu
    return EdgeCase(scale, scanned(truth, scale, EDGE_SCAN, rng), truth.astype(np.float32))


def line_pair_case(scale: int, rng: np.random.Generator) -> LinePairCase:
    """Scan the line pairs; their direction is drawn, so that no grid helps."""
    grid = FineGrid(SIDE, scale)
    angle = float(rng.uniform(0, np.pi))
    truth = grid.flat(BACKGROUND_HU)
    for (row, column), line_pairs in zip(QUARTERS, LINE_PAIRS, strict=True):
        bars = np.sin(2 * np.pi * line_pairs * _across(grid, row, column, angle)) > 0
        truth[bars & grid.disc(row, column, BAR_RADIUS)] = BACKGROUND_HU + BAR_HU
    return LinePairCase(scale, scanned(truth, scale, BAR_SCAN, rng), truth.astype(np.float32), angle)
