import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from qdm_med.data.degradation.degrade import (
    BENCHMARK,
    SCANNER,
    TRAINING,
    DegradationConfig,
    DegradationParams,
    degrade,
)
from qdm_med.data.degradation.real_esrgan import RealEsrganParams
from qdm_med.errors import ConfigError, DataError
from qdm_med.serialise import from_mapping, to_mapping

NOTHING = RealEsrganParams(
    scale=4,
    blur="gaussian",
    blur_size=3,
    blur_sigma=(1e-3, 1e-3),
    blur_theta=0.0,
    blur_cutoff=1.0,
    resize_factor=1.0,
    resize_mode="area",
    noise="gaussian",
    noise_strength=0.0,
    noise_grey=True,
    noise_seed=0,
    jpeg_quality=99.99,
    quantise=False,
)


def images(count: int, side: int = 64, channels: int = 1) -> torch.Tensor:
    coarse = torch.rand(count, channels, 9, 9, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return F.interpolate(coarse, size=(side, side), mode="bilinear")


def drawn(count: int, scale: int = 4, config: DegradationConfig = TRAINING) -> list[DegradationParams]:
    return [config.draw(scale, np.random.default_rng([7, item])) for item in range(count)]


def test_with_every_stage_idle_only_the_mean_over_pixels_remains():
    high_res = images(2)
    torch.testing.assert_close(degrade(high_res, [NOTHING] * 2), F.avg_pool2d(high_res, 4), rtol=0, atol=0.01)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("channels", [1, 3])
def test_shape_range_and_levels_of_the_result(scale, channels):
    low_res = degrade(images(4, channels=channels), drawn(4, scale))
    assert low_res.shape == (4, channels, 64 // scale, 64 // scale)
    levels = (low_res + 1) / 2 * 255
    torch.testing.assert_close(levels, levels.round(), rtol=0, atol=1e-3)
    assert float(low_res.min()) >= -1
    assert float(low_res.max()) <= 1


@pytest.mark.parametrize("config", [TRAINING, SCANNER])
def test_an_image_does_not_depend_on_its_batch(config):
    high_res, params = images(6, side=128), drawn(6, config=config)
    together = degrade(high_res, params)
    for item in range(6):
        assert torch.equal(degrade(high_res[item : item + 1], params[item : item + 1])[0], together[item])


@pytest.mark.parametrize("config", [TRAINING, SCANNER])
def test_parameters_survive_json_bit_for_bit(config):
    params = drawn(20, config=config)
    again = [from_mapping(DegradationParams, json.loads(json.dumps(to_mapping(one)))) for one in params]
    assert again == params
    assert torch.equal(degrade(images(20), again), degrade(images(20), params))


@pytest.mark.parametrize("mode", ["area", "bilinear", "bicubic"])
@pytest.mark.parametrize("factor", [0.61, 1.0, 1.37])
def test_the_random_resize_does_not_shift_the_image(mode, factor):
    params = replace(NOTHING, resize_mode=mode, resize_factor=factor)
    ramp = torch.linspace(-0.8, 0.8, 96).expand(1, 1, 96, 96)
    inner = (..., slice(4, -4))
    for high_res in (ramp, ramp.transpose(-1, -2)):
        low_res, expected = degrade(high_res, [params]), F.avg_pool2d(high_res, 4)
        if high_res is not ramp:
            low_res, expected = low_res.transpose(-1, -2), expected.transpose(-1, -2)
        step = float(ramp[0, 0, 0, 4] - ramp[0, 0, 0, 0])  # one low-resolution pixel
        shift = float((low_res - expected)[inner].mean()) / step
        assert abs(shift) < 0.06


def test_mirrored_image_with_mirrored_kernel_gives_the_mirrored_result():
    params = replace(NOTHING, blur_size=7, blur_sigma=(2.0, 0.7), blur_theta=0.5, resize_mode="bilinear")
    mirrored = degrade(images(1).flip(-1), [replace(params, blur_theta=-0.5)]).flip(-1)
    torch.testing.assert_close(mirrored, degrade(images(1), [params]), rtol=0, atol=2e-2)


def test_drawn_parameters_follow_the_stated_probabilities():
    params = [BENCHMARK.draw(8, np.random.default_rng([1, item])) for item in range(4000)]

    def share(condition) -> float:
        return sum(map(condition, params)) / len(params)

    assert share(lambda one: one.blur == "sinc") == pytest.approx(0.1, abs=0.02)
    assert share(lambda one: one.blur_sigma[0] == one.blur_sigma[1]) == pytest.approx(0.6, abs=0.03)
    assert share(lambda one: one.resize_factor < 1) == pytest.approx(0.7, abs=0.03)
    assert share(lambda one: one.resize_factor == 1) == pytest.approx(0.1, abs=0.02)
    assert share(lambda one: one.noise == "gaussian") == pytest.approx(0.5, abs=0.03)
    assert share(lambda one: one.resize_mode == "area") == pytest.approx(1 / 3, abs=0.03)
    assert {one.blur_size for one in params} == {3, 5, 7, 9, 11}
    assert max(max(one.blur_sigma) for one in params) <= 0.8
    assert max(one.noise_strength for one in params if one.noise == "poisson") <= 0.3
    assert len({one.noise_seed for one in params}) == len(params)


def test_the_same_key_draws_the_same_parameters():
    assert drawn(3) == drawn(3)
    assert drawn(3)[0] != drawn(3)[1]


def test_benchmark_differs_from_training_only_where_the_paper_says():
    assert replace(BENCHMARK, blur_sigma=(0.2, 3.0), gaussian_probability=0.4, poisson_scale=(0.05, 3.0)) == TRAINING


@pytest.mark.parametrize(
    "wrong",
    [
        {"blur_size": (4, 11)},
        {"blur_size": (3, 15)},
        {"blur_sigma": (3.0, 0.2)},
        {"sinc_probability": 1.5},
        {"resize_probabilities": (0.5, 0.5, 0.5)},
        {"resize_range": (0.2, 0.9)},
        {"jpeg_quality": (0.0, 90.0)},
    ],
)
def test_a_contradictory_configuration_names_the_field(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        replace(TRAINING, **wrong)


def test_images_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="66x66 cannot be degraded by 4"):
        degrade(images(1, side=66), drawn(1))
    with pytest.raises(DataError, match="as many parameters"):
        degrade(images(2), drawn(1))
    with pytest.raises(DataError, match="of one scale"):
        degrade(images(2), [*drawn(1, 4), *drawn(1, 8)])
    with pytest.raises(DataError, match="several families, 1 real-esrgan, 1 scanner"):
        degrade(images(2), [*drawn(1), *drawn(1, config=SCANNER)])
    with pytest.raises(DataError, match="12x12 is smaller than a blur kernel"):
        degrade(images(1, side=12), drawn(1))
