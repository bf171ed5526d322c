"""Residual-shifting diffusion against the paper's numbers and against what mathematics demands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from qdm_med.checkpoints.released_names import denoiser_config_from_released, denoiser_from_released
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.process import diffuse, posterior_mean, posterior_std, scale_input, start
from qdm_med.diffusion.sampler import sample
from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig, trailing_timesteps
from qdm_med.errors import ConfigError
from qdm_med.inference.super_resolution import read_steps
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

SCHEDULE = ResidualShiftSchedule.from_config(ScheduleConfig())


@pytest.mark.parametrize(
    ("ours", "golden_name"),
    [
        ("sqrt_eta", "sqrt_etas"),
        ("eta", "etas"),
        ("alpha", "alpha"),
        ("input_std", "input_std"),
        ("posterior_variance", "posterior_variance"),
        ("posterior_log_variance_clipped", "posterior_log_variance_clipped"),
    ],
)
def test_the_schedule_is_the_papers(golden, ours, golden_name):
    expected = golden("schedule")[golden_name].numpy()
    np.testing.assert_allclose(getattr(SCHEDULE, ours), expected, rtol=1e-12, atol=0)


def test_leading_respacing_is_the_releases(golden):
    expected = golden("schedule")
    respaced = SCHEDULE.respaced(range(0, 15, 3))
    assert list(respaced.timesteps) == expected["respaced5_timestep_map"].tolist()
    np.testing.assert_allclose(respaced.sqrt_eta, expected["respaced5_sqrt_etas"].numpy(), rtol=1e-12)


@given(total=st.integers(2, 60), data=st.data())
def test_trailing_timesteps_are_distinct_ascending_and_end_with_the_last(total, data):
    steps = data.draw(st.integers(1, total))
    timesteps = trailing_timesteps(total, steps)
    assert len(timesteps) == steps
    assert timesteps == sorted(set(timesteps))
    assert timesteps[-1] == total - 1
    assert timesteps[0] >= 0


@pytest.mark.parametrize("steps", [0, 16, -1])
def test_impossible_numbers_of_steps_are_refused(steps):
    with pytest.raises(ConfigError, match="between 1 and 15"):
        trailing_timesteps(15, steps)


def test_forward_process_and_prior_agree_with_the_paper(golden):
    ops = golden("diffusion_ops")
    mask = ops["mask_diff"] > 0
    z_t = diffuse(SCHEDULE, ops["z_start"], ops["z_y"], ops["t"], mask, ops["noise"])
    torch.testing.assert_close(z_t, ops["q_sample"], atol=1e-6, rtol=0)
    torch.testing.assert_close(start(SCHEDULE, ops["z_y"], mask, ops["noise"]), ops["prior_sample"], atol=1e-6, rtol=0)
    torch.testing.assert_close(scale_input(SCHEDULE, ops["z_start"], ops["t"]), ops["scale_input"], atol=1e-6, rtol=0)


def test_posterior_agrees_with_the_paper(golden):
    ops = golden("diffusion_ops")
    for item, t in enumerate(ops["t"].tolist()):
        mean = posterior_mean(SCHEDULE, ops["z_y"][item], ops["z_start"][item], t)
        torch.testing.assert_close(mean, ops["post_mean"][item], atol=1e-6, rtol=0)
        inside = (ops["mask_diff"][item] > 0).expand_as(mean)
        std = (0.5 * ops["post_logvar"][item][inside]).exp()
        torch.testing.assert_close(torch.full_like(std, posterior_std(SCHEDULE, t)), std, atol=1e-6, rtol=0)


@pytest.fixture(scope="module")
def denoiser(golden_path):
    released = load_file(golden_path / "qdm_tiny.safetensors")
    network = TwoStreamDenoiser(denoiser_config_from_released(released, heads=4))
    network.load_state_dict(denoiser_from_released(released))
    return network.eval()


@pytest.mark.parametrize(
    ("z_y", "low_res", "masks", "final"),
    [
        ("y_sf1", "y_sf1", "sf1", "final_sf1"),
        ("z_y_sf4", "y_sf4", "sf4", "final_sf4"),
        ("y_sf1", "y_sf1", None, "final_dense_sf1"),
    ],
)
def test_the_fifteen_step_loop_agrees_with_the_paper(denoiser, golden, z_y, low_res, masks, final):
    loop = golden("sampling_loop")
    leaves = loop[f"mask_model_{masks}"] > 0 if masks else torch.ones(1, 16, 16, dtype=torch.bool)
    mask = loop[f"mask_diff_{masks}"] > 0 if masks else torch.ones(1, 1, 32, 32, dtype=torch.bool)
    plan, steps = denoiser.plan(leaves), read_steps(denoiser, SCHEDULE, torch.device("cpu"))
    result = sample(
        lambda x, t: denoiser(x, steps[t], loop[low_res], loop[z_y], plan).merged,
        loop[z_y],
        mask,
        SCHEDULE,
        lambda draw: loop["noises"][draw : draw + 1],
    )
    torch.testing.assert_close(result, loop[final], atol=2e-4, rtol=0)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 15), density=st.floats(0, 1))
def test_a_perfect_denoiser_recovers_the_target(seed, steps, density):
    generator = torch.Generator().manual_seed(seed)
    z_0, z_y = torch.randn(2, 1, 3, 8, 8, generator=generator)
    mask = torch.rand(1, 1, 8, 8, generator=generator) < density
    noise = SliceNoise(seed, "series", 0.0)
    result = sample(
        lambda x, t: z_0,
        z_y,
        mask,
        SCHEDULE.respaced(trailing_timesteps(15, steps)),
        lambda k: noise.draw(k, 3, slice(0, 8), slice(0, 8))[None],
    )
    torch.testing.assert_close(result, z_0, atol=1e-5, rtol=0)


def test_the_network_is_told_the_timesteps_of_the_schedule_that_it_was_trained_with():
    told = []

    def denoise(x, t):
        told.append(t)
        return x

    z = torch.zeros(2, 1, 4, 4)
    sample(denoise, z, torch.ones(2, 1, 4, 4, dtype=torch.bool), SCHEDULE.respaced([3, 7, 14]), lambda k: z)
    assert told == [14, 7, 3]


def draw(noise, number, rows=8, columns=8):
    return noise.draw(number, 3, slice(0, rows), slice(0, columns))


def test_noise_is_a_function_of_its_key_alone():
    noise = SliceNoise(1, "1.2.3", 12.5)
    first = draw(noise, 4)
    draw(noise, 9, 10, 10)
    torch.testing.assert_close(draw(SliceNoise(1, "1.2.3", 12.5), 4), first, atol=0, rtol=0)
    others = [
        SliceNoise(2, "1.2.3", 12.5),
        SliceNoise(1, "1.2.4", 12.5),
        SliceNoise(1, "1.2.3", 12.501),
        SliceNoise(1, "1.2.3", 12.5, 1),
    ]
    for other in others:
        assert not torch.equal(draw(other, 4), first)
    assert not torch.equal(draw(noise, 5), first)


@given(top=st.integers(0, 150), left=st.integers(0, 150), height=st.integers(1, 90), width=st.integers(1, 90))
@settings(max_examples=40, deadline=None)
def test_a_tile_draws_the_noise_of_its_part_of_the_slice(top, left, height, width):
    noise = SliceNoise(1, "1.2.3", 0.0)
    tile = noise.draw(0, 3, slice(top, top + height), slice(left, left + width))
    whole = draw(noise, 0, top + height, left + width)
    torch.testing.assert_close(tile, whole[:, top:, left:], atol=0, rtol=0)


def test_noise_is_standard_normal_and_no_block_repeats_another():
    values = draw(SliceNoise(0, "series", 0.0), 0, 256, 256)
    assert abs(float(values.mean())) < 0.01
    assert float(values.std()) == pytest.approx(1.0, abs=0.01)
    blocks = values.unfold(1, 64, 64).unfold(2, 64, 64).permute(1, 2, 0, 3, 4).reshape(16, -1)
    assert torch.corrcoef(blocks).fill_diagonal_(0).abs().max() < 0.05


def test_an_impossible_schedule_is_refused():
    with pytest.raises(ConfigError, match="sqrt_eta"):
        ScheduleConfig(sqrt_eta_last=0.01)
    with pytest.raises(ConfigError, match="steps"):
        ScheduleConfig(steps=1)
