"""Both stages of Real-ESRGAN: drawn as stated, applied as drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qdm_med.data.degradation.jpeg import jpeg_round_trip
from qdm_med.data.degradation.second_order import degrade_second_order, kernel_of, sample_second_order
from qdm_med.data.degradation.second_order_params import Blur, SecondOrderConfig, SecondOrderParams, Stage, StageConfig
from qdm_med.errors import ConfigError, DataError
from qdm_med.serialise import from_mapping, to_mapping

IDLE = Stage(None, 1.0, "area", "gaussian", 0.0, True, 0)
NOTHING = SecondOrderParams(4, IDLE, 99.99, None, "area", None, 99.99, jpeg_before_resize=True)


def drawn(count: int) -> list[SecondOrderParams]:
    return [sample_second_order(SecondOrderConfig(), 4, np.random.default_rng([3, item])) for item in range(count)]


def images(count: int, side: int = 96) -> torch.Tensor:
    coarse = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bilinear")


def test_with_every_stage_idle_only_the_mean_over_pixels_remains():
    high_res = images(2)
    torch.testing.assert_close(
        degrade_second_order(high_res, [NOTHING] * 2), F.avg_pool2d(high_res, 4), rtol=0, atol=0.02
    )


@pytest.mark.parametrize(
    ("name", "blur"),
    [
        ("gauss_k9_s1.3_0.7_t0.4", Blur("gaussian", 9, (1.3, 0.7), 0.4)),
        ("ggauss_k9_s1.3_0.7_t0.4_b1.2", Blur("generalised", 9, (1.3, 0.7), 0.4, beta=1.2)),
        ("plateau_k9_s1.3_0.7_t0.4_b1.1", Blur("plateau", 9, (1.3, 0.7), 0.4, beta=1.1)),
        ("sinc_k7_c1.5", Blur("sinc", 7, cutoff=1.5)),
    ],
)
def test_a_described_kernel_is_the_golden_one(golden, name, blur):
    torch.testing.assert_close(kernel_of(blur), golden("degradation")[name], rtol=0, atol=1e-12)


def test_an_image_does_not_depend_on_its_batch_and_its_parameters_survive_json():
    high_res, params = images(6), drawn(6)
    again = [from_mapping(SecondOrderParams, json.loads(json.dumps(to_mapping(one)))) for one in params]
    assert again == params
    together = degrade_second_order(high_res, params)
    assert together.shape == (6, 3, 24, 24)
    for item in range(6):
        assert torch.equal(degrade_second_order(high_res[item : item + 1], again[item : item + 1])[0], together[item])


def test_drawn_parameters_follow_the_stated_probabilities():
    params = drawn(4000)
    stages = [one.second for one in params if one.second]
    blurs = [one.first.blur for one in params]

    def share(conditions) -> float:
        return float(np.mean([bool(each) for each in conditions]))

    assert share(one.second for one in params) == pytest.approx(0.5, abs=0.03)
    assert share(stage.blur for stage in stages) == pytest.approx(0.8, abs=0.03)
    assert share(one.last_sinc for one in params) == pytest.approx(0.8, abs=0.03)
    assert share(one.jpeg_before_resize for one in params) == pytest.approx(0.5, abs=0.03)
    assert share(blur.form == "sinc" for blur in blurs) == pytest.approx(0.1, abs=0.02)
    assert share(blur.form == "gaussian" for blur in blurs) == pytest.approx(0.9 * 0.7, abs=0.03)
    assert share(blur.sigma[0] != blur.sigma[1] for blur in blurs) == pytest.approx(0.9 * 0.31, abs=0.03)
    assert share(one.first.resize_factor < 1 for one in params) == pytest.approx(0.7, abs=0.03)
    assert share(stage.resize_factor < 1 for stage in stages) == pytest.approx(0.4, abs=0.03)
    assert {blur.size for blur in blurs} == set(range(7, 22, 2))
    qualities = [quality for one in params for quality in (one.first_quality, one.last_quality)]
    assert 30 <= min(qualities) < 31
    assert 94 < max(qualities) <= 95
    assert max(stage.noise_strength for stage in stages if stage.noise == "gaussian") <= 25
    assert all(0.2 <= value <= 1.5 for stage in stages if stage.blur for value in stage.blur.sigma)


def test_the_two_orders_of_the_end_differ_and_end_as_they_say():
    high_res = images(1)
    blur = Blur("sinc", 7, cutoff=1.5)
    base = replace(NOTHING, last_sinc=blur, last_quality=30.0)
    first, last = (degrade_second_order(high_res, [replace(base, jpeg_before_resize=each)]) for each in (True, False))
    assert not torch.equal(first, last)
    # JPEG at the end: compressing once more at the same quality changes next to nothing.
    unit = (last[0] + 1) / 2
    change = (jpeg_round_trip(unit, 30.0) - unit).abs().mean()
    other = (first[0] + 1) / 2
    assert change < 0.5 * (jpeg_round_trip(other, 30.0) - other).abs().mean()


def test_images_and_numbers_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="66x66 cannot be degraded by 4"):
        degrade_second_order(images(1, side=66), [NOTHING])
    with pytest.raises(DataError, match="too small to blur"):
        blurred = replace(NOTHING, first=replace(IDLE, blur=Blur("gaussian", 21)))
        degrade_second_order(images(1, side=8), [blurred])
    with pytest.raises(DataError, match="as many parameters"):
        degrade_second_order(images(2), [NOTHING])
    with pytest.raises(ConfigError, match="second_probability"):
        SecondOrderConfig(second_probability=1.5)
    with pytest.raises(ConfigError, match="resize_range"):
        StageConfig(resize_range=(1.2, 1.5))
    with pytest.raises(ConfigError, match="kernel_size"):
        SecondOrderConfig(kernel_size=(8, 21))
