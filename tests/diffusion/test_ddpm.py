"""Latent diffusion's chain against MONAI's schedulers and against what mathematics demands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.schedulers import DDIMScheduler, DDPMScheduler

from qdm_med.diffusion.chain import chain_of
from qdm_med.diffusion.ddpm import DdpmConfig, DdpmSchedule
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.process import diffuse, posterior_mean, posterior_std, scale_input, start
from qdm_med.diffusion.sampler import sample
from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig, trailing_timesteps
from qdm_med.errors import ConfigError

CONFIG = DdpmConfig()
SCHEDULE = DdpmSchedule.from_config(CONFIG)
MONAI = {
    "num_train_timesteps": CONFIG.steps,
    "schedule": "scaled_linear_beta",
    "beta_start": CONFIG.beta_first,
    "beta_end": CONFIG.beta_last,
    "clip_sample": False,
}
EVERYWHERE = torch.ones(2, 1, 8, 8, dtype=torch.bool)


def tensors(count, seed=0):
    return torch.randn(count, 2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def test_the_forward_process_is_monais():
    z_0, z_y, noise = tensors(3)
    for t in (torch.tensor([0, 999]), torch.tensor([17, 640])):
        expected = DDPMScheduler(**MONAI).add_noise(z_0, noise, t)
        z_t = diffuse(SCHEDULE, z_0, z_y, t, EVERYWHERE, noise)
        torch.testing.assert_close(z_t, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(scale_input(SCHEDULE, z_t, t), z_t, atol=0, rtol=0)


@pytest.mark.parametrize("steps", [1, 4, 10, 1000])
def test_a_step_back_is_monais_ddim_where_its_steps_fit_its_timesteps(steps):
    z_t, z_0 = tensors(2)
    monai = DDIMScheduler(**MONAI, prediction_type="sample")
    monai.set_timesteps(steps)
    timesteps = trailing_timesteps(CONFIG.steps, steps)
    schedule = SCHEDULE.respaced(timesteps)
    for index in {0, steps // 2, steps - 1}:
        expected, _ = monai.step(z_0, timesteps[index], z_t)
        torch.testing.assert_close(posterior_mean(schedule, z_t, z_0, index), expected, atol=2e-4, rtol=1e-4)
        assert posterior_std(schedule, index) == 0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_a_perfect_denoiser_recovers_the_target(seed, steps):
    z_0, z_y = tensors(2, seed)
    noise = SliceNoise(seed, "series", 0.0)
    result = sample(
        lambda x, t: z_0,
        z_y,
        EVERYWHERE,
        SCHEDULE.respaced(trailing_timesteps(CONFIG.steps, steps)),
        lambda k: noise.draw(k, 3, slice(0, 8), slice(0, 8))[None].expand(2, -1, -1, -1),
    )
    torch.testing.assert_close(result, z_0, atol=1e-5, rtol=0)


def test_a_step_back_leaves_the_noise_that_the_next_timestep_is_told():
    # Fifteen steps do not divide the chain: here a fixed stride would be wrong.
    schedule = SCHEDULE.respaced(trailing_timesteps(CONFIG.steps, 15))
    z_0, noise = tensors(2)
    z = schedule.high_share[-1] * z_0 + schedule.noise_std[-1] * noise
    for index in reversed(range(1, len(schedule))):
        z = posterior_mean(schedule, z, z_0, index)
        before = torch.full((2,), schedule.timesteps[index - 1])
        expected = diffuse(SCHEDULE, z_0, torch.zeros_like(z_0), before, EVERYWHERE, noise)
        torch.testing.assert_close(z.float(), expected, atol=1e-4, rtol=0)


def test_the_way_back_starts_from_pure_noise_and_draws_no_more():
    z_y, noise = tensors(2)
    torch.testing.assert_close(start(SCHEDULE, z_y, EVERYWHERE, noise), noise, atol=1e-2, rtol=0)
    assert torch.equal(start(SCHEDULE, z_y, EVERYWHERE, noise), start(SCHEDULE, z_y + 5, EVERYWHERE, noise))
    drawn = []

    def draw(number):
        drawn.append(number)
        return noise

    sample(lambda x, t: x, z_y, EVERYWHERE, SCHEDULE.respaced([99, 499, 999]), draw)
    assert drawn == [0]


@pytest.mark.parametrize("config", [ScheduleConfig(), DdpmConfig()])
def test_both_chains_keep_the_same_promises(config):
    chain = chain_of(config)
    assert len(chain) == config.steps == len(chain.timesteps)
    # One step back from z_t with the true z_0 is the forward process one step earlier: means, then variances.
    for share in ("high_share", "low_share"):
        forward = getattr(chain, share)
        behind = np.concatenate([[1.0 if share == "high_share" else 0.0], forward[:-1]])
        back = chain.kept_share * forward + (chain.new_share if share == "high_share" else 0)
        np.testing.assert_allclose(back, behind, atol=1e-12)
    variance = (chain.kept_share * chain.noise_std) ** 2 + chain.posterior_std**2
    np.testing.assert_allclose(variance[1:], chain.noise_std[:-1] ** 2, rtol=1e-9)
    # The variance that the network's input is divided by is that of z_t, for latents of unit variance.
    total = (chain.high_share + chain.low_share) ** 2 + chain.noise_std**2
    np.testing.assert_allclose(chain.input_std**2, total, rtol=1e-12)


def test_the_kind_tells_the_chain():
    assert isinstance(chain_of(ScheduleConfig()), ResidualShiftSchedule)
    assert isinstance(chain_of(DdpmConfig()), DdpmSchedule)


def test_an_impossible_schedule_is_refused():
    with pytest.raises(ConfigError, match="betas must rise"):
        DdpmConfig(beta_first=0.02)
    with pytest.raises(ConfigError, match="steps must be at least 2"):
        DdpmConfig(steps=1)
    with pytest.raises(ConfigError, match="timesteps must lie in 0 to 999"):
        SCHEDULE.respaced([1000])
