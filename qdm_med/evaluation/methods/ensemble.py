"""Several samples of a method: their mean as the slice, their standard deviation as its uncertainty."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from qdm_med.checkpoints.model import Checkpoint
from qdm_med.errors import ConfigError
from qdm_med.evaluation.methods.method import Method, Restored
from qdm_med.evaluation.methods.qdm import qdm
from qdm_med.inference.options import UpscaleOptions
from qdm_med.uncertainty import SpreadCalibration
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Ensemble:
    """Methods that differ in their noise only.

    Attributes:
        name: Name in tables.
        members: At least two of them.
        calibration: Of their standard deviation, if the model has one.
    """

    name: str
    members: tuple[Method, ...]
    calibration: SpreadCalibration | None = None

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Draw every sample of one slice; costs add up."""
        results = [member.restore(low_hu, scale) for member in self.members]
        samples = np.stack([result.hu for result in results]).astype(np.float64)
        cost = results[0].cost | {
            key: sum(one.cost[key] for one in results) for key in ("macs", "macs_diffusion") if key in results[0].cost
        }
        mean_hu, std_hu = (made.astype(np.float32) for made in (samples.mean(axis=0), samples.std(axis=0, ddof=1)))
        return replace(
            results[0],
            hu=mean_hu,
            std_hu=std_hu,
            calibrated_std_hu=self.calibration.apply(std_hu, mean_hu) if self.calibration else None,
            samples=len(samples),
            cost=cost,
            seconds=None,
        )


def sampled(checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device, samples: int) -> Ensemble:
    """The checkpoint with the seeds ``options.seed``, ``options.seed + 1`` and so on.

    Raises:
        ConfigError: For fewer than two samples, which have no standard deviation.
    """
    if samples < 2:
        raise ConfigError(f"samples must be at least 2 for a standard deviation, got {samples}")
    members = tuple(qdm(checkpoint, replace(options, seed=options.seed + number), device) for number in range(samples))
    calibration = replace(options, samples=samples).spread_calibration_for(checkpoint.card)
    return Ensemble(f"{members[0].name}, mean of {samples} samples", members, calibration)
