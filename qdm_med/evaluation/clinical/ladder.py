"""HU ladder: uniform discs from lung to metal with noise of 10 HU, to see whether noise is amplified or means are moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.scan import FineGrid, Floats, Scan, scanned
from qdm_med.volume import FloatArray

STEPS_HU: Mapping[str, tuple[float, ...]] = MappingProxyType(
    {
        "lung": (-940.0, -850.0, -700.0, -450.0),
        "fat": (-100.0,),
        "soft_tissue": (0.0, 60.0, 110.0),
        "contrast_medium": (180.0, 250.0, 330.0, 480.0),
        "bone": (750.0, 1200.0, 1900.0, 2800.0),
    }
)
"""Discs by tissue."""

SIDE = 128
"""Source pixels: one tile of the network."""

PITCH = 32.0
RADIUS = 13.0
CORE = 8.0
"""Radius that is read: point spread and overshoot of the rim stay outside."""

BACKGROUND_HU = 40.0
NOISE_HU = 10.0
FWHM = 1.3

WISP_RATIO = 4.12
"""The 99.9 % quantile of the magnitude of Gaussian noise over its mean: 3.29 over 0.80."""

QUIETEST_HU = 0.5
"""Mean deviation below which nothing is a wisp."""


class Disc(NamedTuple):
    """A disc of the ladder: its tissue, HU, and place in source pixels."""

    tissue: str
    hu: float
    row: float
    column: float


def _discs() -> Iterator[Disc]:
    steps = [(tissue, hu) for tissue, all_hu in STEPS_HU.items() for hu in all_hu]
    for number, (tissue, hu) in enumerate(steps):
        row, column = divmod(number, 4)
        yield Disc(tissue, hu, (row + 0.5) * PITCH - 0.5, (column + 0.5) * PITCH - 0.5)


DISCS = tuple(_discs())


@dataclass(frozen=True)
class LadderCase:
    """A scanned ladder.

    Attributes:
        title: Description for people.
        scale: Magnification.
        low_hu: As scanned.
        truth_hu: As drawn.
        directed: Whether its noise has a direction.
    """

    title: str
    scale: int
    low_hu: FloatArray
    truth_hu: FloatArray
    directed: bool

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Compare noise and mean of every disc with the source's, and deviations in soft tissue with Gaussian noise."""
        fine, coarse = FineGrid(SIDE, self.scale), FineGrid(SIDE, 1)
        for disc in DISCS:
            answer = hu[fine.disc(disc.row, disc.column, CORE)].astype(np.float64)
            source = self.low_hu[coarse.disc(disc.row, disc.column, CORE)].astype(np.float64)
            yield from self._of_disc(disc, answer, source)
            if disc.tissue == "soft_tissue" and not self.directed:
                yield Finding("noise_frequency", self._coarseness(hu, disc))

    def _of_disc(self, disc: Disc, answer: NDArray[np.float64], source: NDArray[np.float64]) -> Iterator[Finding]:
        where = "streaks" if self.directed else disc.tissue
        yield Finding(f"noise_{where}", float(answer.std() / source.std()))
        yield Finding(f"shift_{where}", _beyond(float(answer.mean()), float(source.mean()), disc.hu))
        if disc.tissue == "soft_tissue":
            yield Finding("wisps_streaks" if self.directed else "wisps", _wisps(answer))

    def _coarseness(self, hu: FloatArray, disc: Disc) -> float:
        """Mean frequency of the noise in a disc's inner square, relative to the source's."""
        own, before = (
            _mean_frequency(_inner_square(image, disc, scale), scale)
            for image, scale in ((hu, self.scale), (self.low_hu, 1))
        )
        return own / before


def _beyond(answer: float, source: float, truth: float) -> float:
    """HU by which a mean lies outside the range of source and truth."""
    return max(min(source, truth) - answer, answer - max(source, truth), 0.0)


def _wisps(values: NDArray[np.float64]) -> float:
    """Largest deviations relative to those of Gaussian noise: above 1, noise became structure."""
    deviation = np.abs(values - values.mean())
    return float(np.quantile(deviation, 0.999) / max(float(deviation.mean()), QUIETEST_HU) / WISP_RATIO)


def _inner_square(hu: FloatArray, disc: Disc, scale: int) -> NDArray[np.float64]:
    """The square of 16 source pixels in the middle of a disc."""
    top, left = (round((place + 0.5 - CORE) * scale) for place in (disc.row, disc.column))
    side = round(2 * CORE * scale)
    return hu[top : top + side, left : left + side].astype(np.float64)


def _mean_frequency(square: NDArray[np.float64], scale: int) -> float:
    """Centre of mass of the noise power in cycles a source pixel (AAPM Task Group 233); NaN without noise."""
    window = np.outer(*[np.hanning(len(square))] * 2)
    power = np.abs(np.fft.fft2((square - square.mean()) * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(len(square), 1 / scale)] * 2))
    total = float(power.sum())
    return float((power * frequency).sum()) / total if total > 1e-6 else float("nan")


def draw_ladder(scale: int) -> Floats:
    """Draw the discs on muscle, in HU."""
    grid = FineGrid(SIDE, scale)
    truth = grid.flat(BACKGROUND_HU)
    for disc in DISCS:
        truth[grid.disc(disc.row, disc.column, RADIUS)] = disc.hu
    return truth


def ladder_case(scale: int, rng: np.random.Generator, *, directed: bool = False) -> LadderCase:
    """Scan a ladder.

    Args:
        scale: Magnification.
        rng: Its noise, and that noise's direction.
        directed: Give the noise a direction.
    """
    truth = draw_ladder(scale)
    scan = Scan(FWHM, NOISE_HU, direction=float(rng.uniform(0, np.pi)) if directed else None)
    low = scanned(truth, scale, scan, rng)
    title = f"HU ladder, {NOISE_HU:g} HU of noise" + (" with a direction" if directed else "")
    return LadderCase(title, scale, low, truth.astype(np.float32), directed)
