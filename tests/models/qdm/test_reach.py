"""Attention to what lies near: the answer of a place follows from its surroundings, in whatever tile it is computed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.models.qdm import attention
from qdm_med.models.qdm.attention import CrossAttention, NearbyCrossAttention, NearbySelfAttention, SelfAttention
from qdm_med.models.qdm.windows import WindowPlan, nearby
from tests.shapes import TINY_DENOISER, awakened

NEAR = replace(TINY_DENOISER, hidden=32, depth=2, reach=1, rescale_positions=False)


def answer(network, x, leaves):
    with torch.no_grad():
        return network(x, torch.tensor([7]), x[:, :1], x, network.plan(leaves)).merged


def test_the_tokens_nearby_are_those_in_and_around_each_window_and_those_beyond_the_map_are_told():
    numbers = torch.arange(2 * 4 * 6).reshape(2, 4, 6, 1)
    around = nearby(numbers, side=2, reach=1)
    assert around.tokens.shape == (2 * 2 * 3, 16, 1)
    in_the_middle_of_the_second_map = around.tokens[7, :, 0][around.inside[7]]
    expected = numbers[1, 0:3, 1:5, 0].flatten()  # the upper middle window: no row above it
    assert in_the_middle_of_the_second_map.tolist() == expected.tolist()
    chosen = nearby(numbers, side=2, reach=1, windows=torch.tensor([7, 2]))
    assert torch.equal(chosen.tokens, around.tokens[[7, 2]])
    assert torch.equal(chosen.inside, around.inside[[7, 2]])


@pytest.mark.parametrize("leaf_mode", [True, False])
def test_attention_that_reaches_over_the_whole_map_is_the_papers(leaf_mode):
    torch.manual_seed(1)
    context, rows = torch.randn(2, 4, 4, 32), torch.randn(2, 16, 16, 32)
    whole, near = SelfAttention(32, 2), NearbySelfAttention(32, 2, side=2, reach=4)
    near.load_state_dict({**near.state_dict(), **whole.state_dict()})
    torch.testing.assert_close(near(context), whole(context), atol=1e-5, rtol=0)
    whole, near = CrossAttention(32, 2), NearbyCrossAttention(32, 2, tokens=64, side=2, reach=4)
    near.load_state_dict({**near.state_dict(), **whole.state_dict()})
    leaves = torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(2)) < 0.1
    plan = WindowPlan.from_mask(leaves, window=8, leaf_mode=leaf_mode)
    asked = plan.gather(rows)
    expected = whole(asked, whole.keys_values(context), plan)
    torch.testing.assert_close(near(asked, near.keys_values(context), plan), expected, atol=1e-5, rtol=0)


def test_each_place_around_a_window_has_its_own_weight():
    near = NearbySelfAttention(32, 2, side=2, reach=1)
    context = torch.randn(1, 6, 6, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        near.place_bias[:, 0, 5] = 1e4  # the first token of every window sees nothing but itself
        value = near.qkv(context)[..., 64:]
        torch.testing.assert_close(near(context)[0, 2, 2], near.out(value[0, 2, 2]))
        assert not torch.allclose(near(context)[0, 2, 3], near.out(value[0, 2, 3]), atol=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.3])
def test_the_answer_is_the_same_in_any_tile_beyond_the_reach_of_its_border(share):
    network = awakened(NEAR)
    generator = torch.Generator().manual_seed(4)
    x = torch.randn(1, 2, 16 * 11, 16 * 11, generator=generator)
    leaves = torch.rand(1, 88, 88, generator=generator) < share
    whole = answer(network, x, leaves)
    tile = answer(network, x[..., 16:, 32:].contiguous(), leaves[:, 8:, 16:])
    # Two blocks of the upstream, the downstream's look at it, window by window, and the convolutions before and after.
    margin = 16 * 4
    torch.testing.assert_close(tile[..., margin:, margin:], whole[..., 16 + margin :, 32 + margin :], atol=1e-4, rtol=0)
    paper = awakened(replace(NEAR, reach=0))
    moved = answer(paper, x[..., 16:, 32:].contiguous(), leaves[:, 8:, 16:])[..., margin:, margin:]
    assert (moved - answer(paper, x, leaves)[..., 16 + margin :, 32 + margin :]).abs().max() > 1e-2


def test_chunks_of_windows_do_not_change_the_answer(monkeypatch):
    network = awakened(NEAR)
    x = torch.randn(2, 2, 48, 48, generator=torch.Generator().manual_seed(6))
    leaves = torch.rand(2, 24, 24, generator=torch.Generator().manual_seed(7)) < 0.2
    whole = answer(network, x, leaves)
    monkeypatch.setattr(WindowPlan, "CHUNK", 2)
    torch.testing.assert_close(answer(network, x, leaves), whole, atol=2e-5, rtol=0)


def test_patches_that_are_embedded_alone_have_the_place_in_their_window_that_they_have_among_all():
    embed = awakened(NEAR).downstream.embed
    x = torch.randn(2, NEAR.trunk_channels, 48, 32, generator=torch.Generator().manual_seed(8))
    everywhere = embed(x).flatten(0, 2)
    chosen = torch.tensor([[0, 9], [200, 2 * 24 * 16 - 1]])
    torch.testing.assert_close(embed.at(x.contiguous(memory_format=torch.channels_last), chosen), everywhere[chosen])
    assert not torch.allclose(embed.positions[3, 5], embed.positions[5, 3])


def test_many_windows_are_attended_to_in_parts(monkeypatch):
    near = NearbySelfAttention(32, 2, side=2, reach=1)
    context = torch.randn(1, 6, 6, 32, generator=torch.Generator().manual_seed(9))
    whole = near(context)
    monkeypatch.setattr(attention, "MOST_WINDOWS", 4)
    torch.testing.assert_close(near(context), whole)


def test_half_precision_serves():
    near = NearbySelfAttention(32, 2, side=2, reach=1)
    context = torch.randn(1, 6, 6, 32, generator=torch.Generator().manual_seed(10))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = near(context)
    assert rounded.dtype == torch.bfloat16
    torch.testing.assert_close(rounded.float(), near(context), atol=0.02, rtol=0.02)


def test_a_reach_without_an_upstream_or_below_zero_is_refused():
    with pytest.raises(ConfigError, match="reach needs an upstream"):
        replace(NEAR, upstream=False, noise_everywhere=True)
    with pytest.raises(ConfigError, match="reach must be at least 0, got -1"):
        replace(NEAR, reach=-1)
