"""The U-Net answers what the two-stream denoiser is asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.models.compared.unet import LatentUnet, LatentUnetConfig
from qdm_med.models.network import build_network
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_DENOISER, awakened

TINY = LatentUnetConfig(
    latent_channels=2, channels=(8, 16), res_blocks=(1, 1), attention=(False, True), head_channels=8, norm_groups=4
)


def ask(network, *, size=(12, 20), low=(3, 5), density=1.0, items=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x_t, z_y = torch.randn(2, items, 2, *size, generator=generator)
    low_res = torch.rand(items, 1, *low, generator=generator) * 2 - 1
    leaves = torch.rand(items, *(-(-side // 2) for side in size), generator=generator) < density
    with torch.no_grad():
        said = network(x_t, torch.arange(items), low_res, z_y, network.plan(leaves))
    return said, z_y


@pytest.fixture(scope="module")
def lively():
    return awakened(TINY)


def test_an_untrained_network_answers_the_upsampled_latent():
    said, z_y = ask(LatentUnet(TINY).eval())
    torch.testing.assert_close(said.merged, z_y, atol=0, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (16, 16), (33, 18)])
def test_any_latent_size_is_answered(lively, size):
    said, z_y = ask(lively, size=size)
    assert said.merged.shape == z_y.shape
    assert not torch.allclose(said.merged, z_y)


def test_one_stream_has_one_answer_and_no_mask_changes_it(lively):
    said, _ = ask(lively)
    assert torch.equal(said.merged, said.upstream)
    assert torch.equal(said.merged, said.downstream)
    assert torch.equal(ask(lively, density=0.1)[0].merged, said.merged)
    sparse = torch.zeros(1, 8, 8, dtype=torch.bool)
    assert lively.plan(sparse).window_count == 1


def test_everything_that_it_is_told_matters(lively):
    generator = torch.Generator().manual_seed(0)
    x_t, z_y = torch.randn(2, 1, 2, 16, 16, generator=generator)
    low_res, t = torch.rand(1, 1, 4, 4, generator=generator), torch.tensor([3])
    plan = lively.plan(torch.ones(1, 8, 8, dtype=torch.bool))

    def shift(x_t=x_t, t=t, low_res=low_res, z_y=z_y):
        with torch.no_grad():
            return lively(x_t, t, low_res, z_y, plan).merged - z_y

    for change in ({"x_t": x_t + 1}, {"t": t + 9}, {"low_res": -low_res}, {"z_y": z_y + x_t}):
        assert not torch.allclose(shift(**change), shift(), atol=1e-4), change


def test_an_image_does_not_depend_on_its_companions(lively):
    x_t, z_y = torch.randn(2, 3, 2, 12, 20, generator=torch.Generator().manual_seed(0))
    low_res = torch.zeros(3, 1, 3, 5)
    plan = lively.plan(torch.ones(3, 6, 10, dtype=torch.bool))
    single = lively.plan(torch.ones(1, 6, 10, dtype=torch.bool))
    with torch.no_grad():
        all_three = lively(x_t, torch.arange(3), low_res, z_y, plan).merged
        second = lively(x_t[1:2], torch.tensor([1]), low_res[:1], z_y[1:2], single).merged
    torch.testing.assert_close(second[0], all_three[1], atol=1e-5, rtol=0)


def test_the_configuration_tells_the_network():
    assert isinstance(build_network(TINY), LatentUnet)
    assert isinstance(build_network(TINY_DENOISER), TwoStreamDenoiser)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"res_blocks": (1,)}, "res_blocks needs a value for each"),
        ({"norm_groups": 5}, "norm_groups 5 must divide all channels, not 8"),
        ({"head_channels": 5}, "head_channels 5 must divide channels that attend, not 16"),
        ({"channels": (8,) * 6, "res_blocks": (1,) * 6, "attention": (False,) * 6}, "cannot halve 16 latent pixels"),
        ({"channels": (), "res_blocks": (), "attention": ()}, "of 0 levels"),
    ],
)
def test_impossible_shapes_are_refused(change, said):
    with pytest.raises(ConfigError, match=said):
        replace(TINY, **change)
