"""The loop's own numbers: learning rate, averaged weights, what it refuses."""

from __future__ import annotations

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.training.averaging import fixed_average, warm_average
from qdm_med.training.experiment import load_config
from qdm_med.training.loop import LoopConfig


def test_an_unknown_precision_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("name: x\nloop: {precision: float16}\n")
    with pytest.raises(ConfigError, match="precision: must be one of float32, bfloat16, mixed"):
        load_config(tmp_path / "config.yaml")
    with pytest.raises(ConfigError, match="accumulate must be at least 1"):
        LoopConfig(accumulate=0)


def test_the_learning_rate_warms_up_and_falls():
    config = LoopConfig(steps=100, warmup=10, learning_rate=1.0, cosine=True)
    rates = [config.learning_rate_at(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == pytest.approx(rates[9], rel=0.05)
    assert rates[-1] < 0.03
    assert LoopConfig(learning_rate=1.0, warmup=0).learning_rate_at(40_000) == 1.0


def averaged_once(average, updates):
    averaged = [torch.zeros(1), torch.zeros(2, 3)]
    average(averaged, [torch.ones(1), torch.ones(2, 3)], updates)
    assert torch.all(averaged[1] == averaged[0])
    return averaged[0].item()


def test_averaged_weights_remember_less_early_on():
    average = warm_average(0.999)
    assert averaged_once(average, 0) == pytest.approx(0.9)
    assert averaged_once(average, torch.tensor(10**6)) == pytest.approx(0.001, rel=1e-3)


def test_a_fixed_average_is_the_papers_from_the_first_step_on():
    average = fixed_average(0.999)
    for updates in (0, 10**6):
        assert averaged_once(average, updates) == pytest.approx(0.001, rel=1e-3)


@pytest.mark.parametrize("name", ["cpu_minutes", "clip"])
def test_a_negative_limit_is_refused(name):
    with pytest.raises(ConfigError, match=f"{name} must not be negative, got -1"):
        LoopConfig(**{name: -1})
