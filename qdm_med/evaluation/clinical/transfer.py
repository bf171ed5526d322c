"""Task transfer function of a round insert (AAPM Task Group 233): the sharpness of its rim, read all the way round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.signal.windows import tukey

from qdm_med.evaluation.clinical.scan import Floats

REACH = 6.0
"""Source pixels on either side of the rim."""

BIN = 0.125
"""Width of the rings that pixels are gathered into, in source pixels; a ring that no pixel falls into is interpolated."""

PLATEAU = 2.5
"""Source pixels at either end of the profile that tell inside and outside."""

SMALLEST_STEP_HU = 20.0
"""An insert that stands out less has no rim to read."""


@dataclass(frozen=True)
class Transfer:
    """Sharpness of an insert's rim.

    Attributes:
        mtf50: Frequency at which half of the modulation is left, in cycles a source pixel.
        mtf10: That at which a tenth is left.
        overshoot: Height by which the profile leaves the plateaus, as a share of the step.
    """

    mtf50: float
    mtf10: float
    overshoot: float


def insert_transfer(hu: Floats, row: float, column: float, radius: float, scale: int) -> Transfer | None:
    """Read the rim of an insert; ``None`` where it hardly stands out.

    Args:
        hu: ``(scale rows, scale columns)`` HU.
        row: Middle of the insert in source pixels.
        column: Likewise.
        radius: Likewise; more than 6 source pixels.
        scale: Pixels along a source pixel.
    """
    profile = _profile(hu, row, column, radius, scale)
    ends = round(PLATEAU / BIN)
    inside, outside = float(profile[:ends].mean()), float(profile[-ends:].mean())
    if abs(outside - inside) < SMALLEST_STEP_HU:
        return None
    edge = (profile - inside) / (outside - inside)
    frequency, mtf = _mtf(edge)
    overshoot = max(float(edge.max()) - 1, -float(edge.min()), 0.0)
    return Transfer(_crossing(frequency, mtf, 0.5), _crossing(frequency, mtf, 0.1), overshoot)


def _profile(hu: Floats, row: float, column: float, radius: float, scale: int) -> Floats:
    """HU by distance from the rim, ring by ring, from the inside."""
    rows, columns = ((np.arange(length) + 0.5) / scale - 0.5 for length in hu.shape)
    from_rim = np.hypot(rows[:, None] - row, columns[None, :] - column) - radius
    near = np.abs(from_rim) < REACH
    ring = np.floor((from_rim[near] + REACH) / BIN).astype(int)
    rings = round(2 * REACH / BIN)
    counts = np.bincount(ring, minlength=rings)[:rings]
    sums = np.bincount(ring, weights=hu[near], minlength=rings)[:rings]
    filled = np.flatnonzero(counts)
    return np.interp(np.arange(rings), filled, sums[filled] / counts[filled])


def _mtf(edge: Floats) -> tuple[Floats, Floats]:
    """Frequencies in cycles a source pixel, and the modulation that is left there."""
    # Flat over the inner three quarters: a window that is not would make wide edges narrower.
    line = np.diff(edge) * tukey(len(edge) - 1, 0.25)
    transfer = np.abs(np.fft.rfft(line, 8 * len(line)))
    return np.fft.rfftfreq(8 * len(line), BIN).astype(np.float64), transfer / max(float(transfer[0]), 1e-9)


def _crossing(frequency: Floats, mtf: Floats, level: float) -> float:
    """First frequency at which the modulation falls below a level."""
    below = np.flatnonzero(mtf < level)
    if not len(below) or below[0] == 0:
        return float(frequency[-1])
    upper = int(below[0])
    share = (mtf[upper - 1] - level) / (mtf[upper - 1] - mtf[upper])
    return float(frequency[upper - 1] + share * (frequency[upper] - frequency[upper - 1]))
