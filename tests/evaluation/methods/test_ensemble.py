from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.methods.ensemble import Ensemble, sampled
from qdm_med.evaluation.methods.method import Restored
from qdm_med.inference.options import UpscaleOptions
from qdm_med.uncertainty import SpreadCalibration

CPU = torch.device("cpu")


class Fixed:
    def __init__(self, value):
        self.name, self.value = str(value), value

    def restore(self, low_hu, scale):
        return Restored(np.full((4, 4), self.value, dtype=np.float32), cost={"macs": 10.0, "windows": 3.0})


def test_mean_and_standard_deviation_of_the_samples_and_the_sum_of_their_cost():
    restored = Ensemble("e", tuple(map(Fixed, (1.0, 2.0, 6.0)))).restore(np.zeros((1, 1)), 4)
    assert (restored.hu == 3.0).all()
    np.testing.assert_allclose(restored.std_hu, np.std([1, 2, 6], ddof=1), rtol=1e-6)
    assert (restored.samples, restored.cost) == (3, {"macs": 30.0, "windows": 3.0})


def test_the_models_calibration_goes_beside_the_raw_standard_deviation(checkpoint):
    calibration = SpreadCalibration(4, 2, 2, factor=2.0, floor_hu=10.0, coverage=0.95)
    members = tuple(map(Fixed, (1.0, 2.0, 6.0)))
    plain, calibrated = (Ensemble("e", members, one).restore(np.zeros((1, 1)), 4) for one in (None, calibration))
    assert plain.calibrated_std_hu is None
    np.testing.assert_array_equal(calibrated.std_hu, plain.std_hu)
    np.testing.assert_allclose(calibrated.calibrated_std_hu, np.hypot(2 * plain.std_hu, 10.0), rtol=1e-6)
    knowing = replace(checkpoint, card=replace(checkpoint.card, uncertainty=(calibration,)))
    assert sampled(knowing, UpscaleOptions(scale=4), CPU, 2).calibration == calibration
    assert sampled(knowing, UpscaleOptions(scale=4, steps=1), CPU, 2).calibration is None


def test_samples_differ_by_their_seed_only(checkpoint):
    low_hu = np.random.default_rng(0).integers(-900, 900, (16, 16)).astype(np.float32)
    method = sampled(checkpoint, UpscaleOptions(scale=4, threshold=0.0), CPU, 3)
    assert method.name == "tiny, 2 steps, s = 0, mean of 3 samples"
    assert [member.upscaler.options.seed for member in method.members] == [0, 1, 2]
    first, second = method.restore(low_hu, 4), method.restore(low_hu, 4)
    np.testing.assert_array_equal(first.std_hu, second.std_hu)
    assert first.hu.shape == first.std_hu.shape == (64, 64)


def test_one_sample_has_no_spread(checkpoint):
    with pytest.raises(ConfigError, match="samples must be at least 2 for a standard deviation, got 1"):
        sampled(checkpoint, UpscaleOptions(scale=4), CPU, 1)
