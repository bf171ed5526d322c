"""The variant whose steps add to what the encoder of the source says once a slice."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig
from qdm_med.errors import ConfigError
from qdm_med.inference.super_resolution import read_steps, super_resolve
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig, KlVae
from qdm_med.models.latent_grid import local_contrast
from qdm_med.models.qdm.config import PRESETS
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

CONFIG = replace(
    PRESETS["t"],
    latent_channels=16,
    hidden=16,
    depth=1,
    heads=2,
    trunk_channels=8,
    trunk_blocks=0,
    head_blocks=1,
    source_channels=8,
    source_blocks=1,
    source_sees="contrast",
    source_is_base=True,
    see_shift=True,
    noise_everywhere=True,
)
SCHEDULE = ResidualShiftSchedule.from_config(ScheduleConfig())


def network(*, seed=0):
    torch.manual_seed(seed)
    made = TwoStreamDenoiser(CONFIG).eval()
    with torch.no_grad():
        made.source.shift.weight.normal_(0, 0.05)
    return made


def random(*shape, seed=1):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_untrained_steps_answer_what_the_source_alone_expects():
    """The head starts at zero: what is left is the base."""
    denoiser, low_res, z_y = network(), 0.3 * random(1, 1, 16, 16), random(1, 16, 16, 16)
    leaves = torch.ones(1, 8, 8, dtype=torch.bool)
    with torch.no_grad():
        said = denoiser(random(1, 16, 16, 16, seed=2), torch.tensor([14]), low_res, z_y, denoiser.plan(leaves))
        expected = denoiser.expect(low_res, z_y)
    torch.testing.assert_close(said.merged, expected)
    assert (expected - z_y).abs().max() > 1e-3


def test_the_sampler_shows_the_shift_of_the_chain_and_not_its_level():
    """A constant added to image and latent alike must not change what such a network sees of the chain."""
    denoiser = network()
    with torch.no_grad():
        denoiser.read_out.weight.normal_(0, 0.05)
    shown = []
    denoiser.register_forward_pre_hook(lambda module, inputs: shown.append(inputs[0]))
    pixels = KlVae(AutoencoderConfig(layout="pixels", latent_channels=16, channels=(), res_blocks=())).eval()
    leaves = torch.ones(1, 8, 8, dtype=torch.bool)
    low_res = 0.1 * random(1, 1, 16, 16)
    for level in (0.0, 0.5):
        super_resolve(
            pixels,
            denoiser,
            low_res + level,
            leaves,
            scale=4,
            schedule=SCHEDULE.respaced([14]),
            steps=read_steps(denoiser, SCHEDULE, torch.device("cpu")),
            noises=[lambda draw: random(1, 16, 16, 16, seed=draw)],
        )
    torch.testing.assert_close(shown[0], shown[1], atol=1e-5, rtol=1e-5)


def test_local_contrast_is_zero_on_flats_and_shows_ten_hu_and_a_thousand_in_few_units():
    step = torch.zeros(1, 1, 9, 18)
    step[..., 9:] = 1.0
    contrast = local_contrast(torch.cat([torch.full_like(step, 0.4), 0.01 * step, step]))
    assert contrast[0].abs().max() < 1e-4
    assert 0.1 < contrast[1].max() < 1
    assert 1 < contrast[2].max() < 4


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"see_shift": True}, "see_shift needs predict_shift"),
        ({"source_is_base": True}, "need source_channels"),
    ],
)
def test_options_of_parts_that_are_not_there_are_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        replace(PRESETS["s"], **wrong)
