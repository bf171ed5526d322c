"""Limits of fidelity, beyond which a column raises an alarm."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Limit:
    """Range of a column within which there is no alarm.

    Interpolation of the input blurs, shifts HU at edges and invents nothing: what it does to a slice as well is known and
    no alarm. The range therefore reaches to its value on the same slice, and as far beyond it as two ways to interpolate
    may differ.

    Attributes:
        low: Smallest good value, whatever interpolation does.
        high: Largest good value, likewise.
        meaning: What is wrong beyond it.
        margin: How far beyond interpolation's value there is no alarm.
        share: The same as a part of interpolation's value, added to ``margin``: biases of tens of HU differ by some.
    """

    low: float
    high: float
    meaning: str
    margin: float = 0.0
    share: float = 0.0

    def broken_by(self, value: float, interpolated: float = math.nan) -> bool:
        """Whether a value raises the alarm; what could not be measured does not.

        Args:
            value: Of the method.
            interpolated: Of interpolation on the same slice, if it could be measured.
        """
        low, high = self.low, self.high
        if math.isfinite(interpolated):
            reach = self.margin + self.share * abs(interpolated)
            low, high = min(low, interpolated - reach), max(high, interpolated + reach)
        return math.isfinite(value) and not low <= value <= high
