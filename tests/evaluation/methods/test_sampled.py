"""The mean of samples is what ``upscale --samples`` makes, with its standard deviation, raw and calibrated."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.methods.qdm import qdm, sampled
from qdm_med.inference.options import UpscaleOptions
from qdm_med.uncertainty import SpreadCalibration

CPU = torch.device("cpu")
OPTIONS = UpscaleOptions(scale=4, threshold=0.0)


@pytest.fixture(scope="module")
def low_hu():
    return np.random.default_rng(0).integers(-900, 900, (16, 16)).astype(np.float32)


def test_it_is_the_checkpoint_with_so_many_samples(checkpoint, low_hu):
    method = sampled(checkpoint, OPTIONS, CPU, 3)
    assert method.name == "tiny, 2 steps, s = 0, mean of 3 samples"
    restored, plain = method.restore(low_hu, 4), qdm(checkpoint, replace(OPTIONS, samples=3), CPU).restore(low_hu, 4)
    assert restored.hu.tobytes() == plain.hu.tobytes()
    assert plain.std_hu is None
    assert restored.samples == 3
    assert restored.std_hu.shape == (64, 64)
    np.testing.assert_array_equal(restored.std_hu, method.restore(low_hu, 4).std_hu)


def test_the_models_calibration_goes_beside_the_raw_standard_deviation(checkpoint, low_hu):
    calibration = SpreadCalibration(4, 2, 2, factor=2.0, floor_hu=10.0, coverage=0.95, consistency="off")
    knowing = replace(checkpoint, card=replace(checkpoint.card, uncertainty=(calibration,)))
    plain, calibrated = (sampled(one, OPTIONS, CPU, 2).restore(low_hu, 4) for one in (checkpoint, knowing))
    assert plain.calibrated_std_hu is None
    np.testing.assert_array_equal(calibrated.std_hu, plain.std_hu)
    np.testing.assert_allclose(calibrated.calibrated_std_hu, np.hypot(2 * plain.std_hu, 10.0), rtol=1e-5)
    assert sampled(knowing, replace(OPTIONS, steps=1), CPU, 2).restore(low_hu, 4).calibrated_std_hu is None


def test_one_sample_has_no_spread(checkpoint):
    with pytest.raises(ConfigError, match="samples must be at least 2 for a standard deviation, got 1"):
        sampled(checkpoint, UpscaleOptions(scale=4), CPU, 1)
