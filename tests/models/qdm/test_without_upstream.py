"""The downstream alone (paper Table 7): no coarse answer, no context, every leaf active."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.models.qdm.config import PRESETS
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_DENOISER, awakened

ALONE = {"upstream": False, "noise_everywhere": True}
PAPER = replace(PRESETS["s"], hidden=32, depth=2, heads=2)


def answer(network, x):
    leaves = torch.ones(len(x), x.shape[-2] // 2, x.shape[-1] // 2, dtype=torch.bool)
    with torch.no_grad():
        return network(x, torch.tensor([7]), torch.zeros(len(x), 1, *x.shape[-2:]), x, network.plan(leaves))


@pytest.mark.parametrize("config", [TINY_DENOISER, PAPER], ids=["t", "paper"])
def test_there_is_one_answer_and_no_upstream_to_pay_for(config):
    whole, alone = TwoStreamDenoiser(config), awakened(replace(config, **ALONE))
    missing = whole.state_dict().keys() - alone.state_dict().keys()
    assert missing
    assert all(name.startswith("upstream.") for name in missing)
    assert alone.state_dict().keys() - whole.state_dict().keys() == {"upstream.context"}
    said = answer(alone, torch.randn(2, config.latent_channels, 32, 32))
    assert torch.equal(said.merged, said.upstream)
    assert torch.equal(said.merged, said.downstream)
    assert said.merged.std() > 0


@pytest.mark.parametrize("upstream", [True, False])
def test_without_upstream_no_window_knows_of_another(upstream):
    network = awakened(PAPER if upstream else replace(PAPER, **ALONE))
    x = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[..., :16, :16] += 1.0  # the first of four windows
    before, after = answer(network, x).merged, answer(network, changed).merged
    assert not torch.equal(before[..., :16, :16], after[..., :16, :16])
    assert torch.equal(before[..., 16:, 16:], after[..., 16:, 16:]) is not upstream


def test_the_learned_token_matters_to_the_answer_and_is_trained():
    network = awakened(replace(PAPER, **ALONE))
    x = torch.randn(1, 3, 16, 16)
    before = answer(network, x).merged
    leaves = torch.ones(1, 8, 8, dtype=torch.bool)
    network(x, torch.tensor([7]), x[:, :1], x, network.plan(leaves)).merged.sum().backward()
    assert network.upstream.context.grad.any()
    with torch.no_grad():
        network.upstream.context.add_(1.0)
    assert not torch.equal(answer(network, x).merged, before)


def test_noise_must_be_where_the_answer_is():
    with pytest.raises(ConfigError, match="set noise_everywhere"):
        replace(PAPER, upstream=False)
