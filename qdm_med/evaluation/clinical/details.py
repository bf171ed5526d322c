"""A phantom of details: low-contrast discs, vessels with contrast medium, spongy bone, vessels in the lung."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.scan import FineGrid, Floats, Scan, scanned
from qdm_med.evaluation.measures.tissues import SOFT_TISSUE_HU
from qdm_med.volume import BoolArray, FloatArray

SIDE = 128
CONTRAST_HU = 20.0
"""Contrast of the low-contrast discs: that of a lesion of the liver."""

RADII = (2.0, 2.5, 3.0)
"""Radii of the low-contrast discs, in source pixels."""

VESSEL_RADII = (0.8, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0)
VESSEL_HU = 260.0
"""HU of a vessel with contrast medium above its surroundings."""

MARROW_HU, MARROW_SPREAD_HU, TRABECULA = 500.0, 150.0, 0.6
"""Mean and standard deviation of spongy bone, and the width of its texture in source pixels."""

CORTEX_HU, LUNG_HU, LUNG_VESSEL_HU = 1300.0, -850.0, 30.0
BONE_PLACE, BONE_RADIUS = (95.0, 36.0), 22.0
LUNG_PLACE, LUNG_RADIUS = (95.0, 91.0), 24.0
LUNG_VESSELS = 20

SMALLEST_SPREAD = 0.01
"""Spread of the matched filter's answers, as a share of the contrast, below which discs are found without doubt."""


class Spot(NamedTuple):
    """A disc of the phantom, or an empty place (``hu`` 0): place and radius in source pixels, HU above the tissue."""

    row: float
    column: float
    radius: float
    hu: float


@dataclass(frozen=True)
class DetailCase:
    """A scanned phantom of details.

    Attributes:
        title: Description for people.
        scale: Magnification.
        low_hu: As scanned.
        truth_hu: As drawn.
        tissue_hu: HU around discs and vessels.
        spots: Low-contrast discs and empty places.
        vessels: Vessels with contrast medium.
        noisy: Whether it was scanned with noise.
    """

    title: str
    scale: int
    low_hu: FloatArray
    truth_hu: FloatArray
    tissue_hu: float
    spots: tuple[Spot, ...]
    vessels: tuple[Spot, ...]
    noisy: bool

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Measure contrast, detectability, vessels, textures and errors."""
        grid = FineGrid(SIDE, self.scale)
        answer = hu.astype(np.float64)
        error = np.abs(answer - self.truth_hu)
        kept, detectability = matched_filter(answer, self.spots, self.scale)
        yield Finding("contrast_kept", min(kept, 2 - kept))
        if self.noisy:
            yield Finding("detectability", detectability)
        soft = (self.truth_hu > SOFT_TISSUE_HU[0]) & (self.truth_hu < SOFT_TISSUE_HU[1])
        yield Finding("soft_tissue_error", float(error[soft].mean()))
        bone = grid.disc(*BONE_PLACE, BONE_RADIUS - 4)
        yield Finding("bone_texture", _correlation(answer[bone], self.truth_hu[bone]))
        yield Finding("lung_error", float(error[grid.disc(*LUNG_PLACE, LUNG_RADIUS - 4)].mean()))
        for vessel in self.vessels:
            inside = grid.disc(vessel.row, vessel.column, vessel.radius)
            yield Finding("vessel_error", abs(float(answer[inside].mean()) - self.tissue_hu - vessel.hu) / vessel.hu)


def _correlation(one: NDArray[np.floating], other: NDArray[np.floating]) -> float:
    """Pearson's correlation; 0 where one image is constant, as a texture is that is gone."""
    if one.std() < 1e-6 or other.std() < 1e-6:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def matched_filter(hu: Floats, spots: tuple[Spot, ...], scale: int) -> tuple[float, float]:
    """Measure the contrast kept, and the detectability d' of discs whose size and place are known.

    The observer compares a disc with the ring around it. d' is his mean answer to discs over the spread of his answers
    to empty places.

    Returns:
        Mean answer as a share of the true contrast; d'.
    """
    empty = [spot for spot in spots if not spot.hu]
    present = [_answer(hu, spot, spot.radius, scale) / spot.hu for spot in spots if spot.hu]
    absent = [_answer(hu, place, disc.radius, scale) / abs(disc.hu) for disc in spots if disc.hu for place in empty]
    kept = float(np.mean(present))
    return kept, max(kept, SMALLEST_SPREAD) / max(float(np.std(absent)), SMALLEST_SPREAD)


def _answer(hu: Floats, place: Spot, radius: float, scale: int) -> float:
    """Mean of a disc minus mean of the ring around it, in HU."""
    reach = int(2.5 * radius * scale)
    row, column = (int((where + 0.5) * scale) for where in (place.row, place.column))
    patch = hu[row - reach : row + reach + 1, column - reach : column + reach + 1]
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) / scale
    return float(patch[distance < radius].mean() - patch[(distance > 1.4 * radius) & (distance < 2.4 * radius)].mean())


def _spots(rng: np.random.Generator) -> Iterator[Spot]:
    """Lay out thirty places, a third of which hold a disc, brighter and darker by turns."""
    for number in range(30):
        row, column = (10.0 + 12.0 * place for place in divmod(number, 10))
        radius = RADII[number // 3 % len(RADII)]
        sign = 1 if number % 2 else -1
        jitter = rng.uniform(-1, 1, 2)
        yield Spot(row + jitter[0], column + jitter[1], radius, 0.0 if number % 3 else sign * CONTRAST_HU)


def _vessels(rng: np.random.Generator) -> Iterator[Spot]:
    for number, radius in enumerate(VESSEL_RADII):
        jitter = rng.uniform(-1, 1, 2)
        yield Spot(52.0 + jitter[0], 13.0 + 14.0 * number + jitter[1], radius, VESSEL_HU)


def _add_bone(truth: Floats, grid: FineGrid, rng: np.random.Generator) -> None:
    bone = grid.disc(*BONE_PLACE, BONE_RADIUS)
    marrow = gaussian_filter(rng.standard_normal(truth.shape), TRABECULA * grid.scale)
    truth[bone] = (MARROW_HU + MARROW_SPREAD_HU * marrow / marrow.std())[bone]
    truth[bone & ~grid.disc(*BONE_PLACE, BONE_RADIUS - 2)] = CORTEX_HU


def _add_lung(truth: Floats, grid: FineGrid, rng: np.random.Generator) -> None:
    lung: BoolArray = grid.disc(*LUNG_PLACE, LUNG_RADIUS)
    truth[lung] = LUNG_HU
    for _ in range(LUNG_VESSELS):
        angle, share, radius = rng.uniform(0, 2 * np.pi), rng.uniform(), rng.uniform(0.5, 1.8)
        away = (LUNG_RADIUS - 4) * np.sqrt(share)  # as many in every part of the lung
        place = LUNG_PLACE[0] + away * np.sin(angle), LUNG_PLACE[1] + away * np.cos(angle)
        truth[grid.disc(*place, radius) & lung] = LUNG_VESSEL_HU


def detail_case(scale: int, scan: Scan, rng: np.random.Generator) -> DetailCase:
    """Draw a phantom and scan it.

    Args:
        scale: Magnification.
        scan: Point spread and noise of the scan.
        rng: Places, textures and noise.
    """
    grid = FineGrid(SIDE, scale)
    tissue_hu = float(rng.uniform(30, 60))
    truth = grid.flat(tissue_hu)
    spots, vessels = tuple(_spots(rng)), tuple(_vessels(rng))
    for spot in (*spots, *vessels):
        truth[grid.disc(spot.row, spot.column, spot.radius)] = tissue_hu + spot.hu
    _add_bone(truth, grid, rng)
    _add_lung(truth, grid, rng)
    low = scanned(truth, scale, scan, rng)
    title = f"details, point spread {scan.fwhm:g} pixels, noise {scan.noise_hu:g} HU"
    return DetailCase(title, scale, low, truth.astype(np.float32), tissue_hu, spots, vessels, noisy=bool(scan.noise_hu))
