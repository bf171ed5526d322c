"""From how far samples lie apart to how far the truth lies: a calibration that belongs to a model's weights.

Samples of one input agree more with each other than with the truth: all share what the model gets wrong, and none knows
the noise of a slice that nobody has seen. Both are measured on patients that the model was not trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdm_med.errors import ConfigError
from qdm_med.volume import FloatArray

COVERAGE = 0.95
"""Share of pixels whose truth lies within :data:`REACH` calibrated standard deviations of the mean."""
REACH = 1.96
"""The quantile (1 + 0.95) / 2 of the normal distribution."""


@dataclass(frozen=True)
class SpreadCalibration:
    """What makes a standard deviation in HU of the samples' standard deviation.

    Attributes:
        scale: Magnification that it was measured at.
        steps: Sampling steps that it was measured at.
        samples: Samples that it was measured with.
        factor: Factor on the samples' standard deviation.
        floor_hu: Standard deviation in HU that is added in quadrature.
        coverage: Share of the body's pixels, on patients that had no part in the measurement, whose truth lies within
            :data:`REACH` calibrated standard deviations.
    """

    scale: int
    steps: int
    samples: int
    factor: float
    floor_hu: float
    coverage: float

    def __post_init__(self) -> None:
        """Reject what would make a map negative or nothing."""
        if self.factor < 0 or self.floor_hu < 0:
            raise ConfigError(f"factor and floor must not be negative, got {self.factor} and {self.floor_hu} HU")

    def apply(self, std_hu: FloatArray) -> FloatArray:
        """``sqrt((factor std)^2 + floor^2)``, float32.

        >>> calibration = SpreadCalibration(4, 2, 8, factor=2.0, floor_hu=3.0, coverage=0.95)
        >>> calibration.apply(np.array([[0.0, 2.0]], dtype=np.float32)).tolist()
        [[3.0, 5.0]]
        """
        return np.hypot(np.float32(self.factor) * std_hu, np.float32(self.floor_hu))

    def description(self) -> str:
        """What was done to a map, in words for its header.

        >>> SpreadCalibration(4, 2, 8, factor=2.61, floor_hu=28.44, coverage=0.947).description()
        'sqrt((2.61 std)^2 + (28.4 HU)^2) (measured with 8 samples of 2 steps, 1.96 of it hold 95% of pixels)'
        """
        measured = f"measured with {self.samples} samples of {self.steps} steps"
        return (
            f"sqrt(({self.factor:.2f} std)^2 + ({self.floor_hu:.1f} HU)^2) "
            f"({measured}, {REACH:g} of it hold {self.coverage:.0%} of pixels)"
        )


NOT_CALIBRATED = "none, the spread of the samples as it is"
"""What a map's header says where there is no calibration."""
