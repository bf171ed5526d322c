"""The two-stream denoiser against the paper's numbers and its own promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils._python_dispatch import TorchDispatchMode

from qdm_med.checkpoints.released_names import (
    denoiser_config_from_released,
    denoiser_from_released,
    denoiser_to_released,
)
from qdm_med.diffusion.sampler import sample
from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig
from qdm_med.errors import ConfigError
from qdm_med.inference.super_resolution import read_steps
from qdm_med.models.qdm.config import PRESETS, DenoiserConfig
from qdm_med.models.qdm.denoiser import Source, TwoStreamDenoiser
from qdm_med.models.qdm.quadtree import on_finer_grid
from qdm_med.models.qdm.windows import WindowPlan
from tests.shapes import TINY_DENOISER, awakened

TOLERANCE = 1e-4  # the golden README's: summation order alone gives 1e-5

TINY_T = replace(TINY_DENOISER, hidden=32, depth=2)


@pytest.fixture(scope="module")
def released(golden_path):
    return load_file(golden_path / "qdm_tiny.safetensors")


@pytest.fixture(scope="module")
def denoiser(released):
    network = TwoStreamDenoiser(denoiser_config_from_released(released, heads=4))
    network.load_state_dict(denoiser_from_released(released))
    return network.eval()


@pytest.fixture(scope="module")
def io(golden):
    return golden("qdm_tiny_io")


def run(denoiser, x, t, low_res, mask):
    with torch.no_grad():
        return denoiser(x, t, low_res, x, denoiser.plan(mask))


@pytest.mark.parametrize(("preset", "parameters"), [("s", 50_871_756), ("b", 199_064_268), ("l", 691_941_580)])
def test_the_papers_presets_have_the_papers_number_of_parameters(preset, parameters):
    with torch.device("meta"):
        network = TwoStreamDenoiser(PRESETS[preset])
    # As the paper counts them: the fixed position tables, which we compute, are among them.
    tables = [one for name, one in network.named_buffers() if name.endswith("positions")]
    assert sum(one.numel() for one in (*network.parameters(), *tables)) == parameters


def test_dense_forward_agrees_with_the_paper(denoiser, io):
    said = run(denoiser, io["x"], io["t"], io["lq"], torch.ones(2, 16, 16, dtype=torch.bool))
    torch.testing.assert_close(said.merged, io["out_dense"], atol=TOLERANCE, rtol=0)
    torch.testing.assert_close(said.upstream, io["up_pred"], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize(
    ("mask", "expected"), [("mask", "out_masked"), ("none", "out_masked_zero"), ("all", "out_masked_full")]
)
def test_masked_forward_agrees_with_the_paper(denoiser, io, mask, expected):
    leaves = {"mask": io["mask"] > 0, "none": io["mask"] > 2, "all": io["mask"] >= 0}[mask]
    said = run(denoiser, io["x"], io["t"], io["lq"], leaves)
    torch.testing.assert_close(said.merged, io[expected], atol=TOLERANCE, rtol=0)


def test_a_smaller_condition_is_resized_as_in_the_paper(denoiser, io):
    said = run(denoiser, io["x"], io["t"], io["lq_small"], torch.ones(2, 16, 16, dtype=torch.bool))
    torch.testing.assert_close(said.merged, io["out_dense_lq_small"], atol=TOLERANCE, rtol=0)


def test_a_latent_larger_than_the_trained_one_agrees_with_the_paper(denoiser, io):
    said = run(denoiser, io["x64"], io["t64"], io["lq64"], torch.ones(1, 32, 32, dtype=torch.bool))
    torch.testing.assert_close(said.merged, io["out_dense_64"], atol=TOLERANCE, rtol=0)


def test_intermediate_values_agree_with_the_paper(denoiser, io):
    from qdm_med.models.qdm.embeddings import timestep_embedding

    torch.testing.assert_close(timestep_embedding(torch.arange(15)), io["timestep_embedding"], atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(denoiser.upstream.time(io["t"]), io["t_emb_up"], atol=TOLERANCE, rtol=0)
        seen = torch.cat([io["x"], io["lq"]], dim=1)
        _, context = denoiser.upstream(seen, denoiser.upstream.read_step(io["t"]))
        torch.testing.assert_close(context.flatten(1, 2), io["embeds"], atol=TOLERANCE, rtol=0)


def test_conversion_there_and_back_is_exact(denoiser, released):
    back = denoiser_to_released(denoiser)
    assert back.keys() == released.keys()
    for name, value in released.items():
        # Ours computes the position tables in float64: the last bit of float32 may differ.
        tolerance = 1e-7 if name.endswith("pos_embed") else 0
        torch.testing.assert_close(back[name], value.float(), atol=tolerance, rtol=0)


@pytest.mark.parametrize("config", [TINY_T, replace(PRESETS["s"], hidden=32, depth=1, heads=2)], ids=["t", "paper"])
@pytest.mark.parametrize("size", [(16, 16), (20, 34), (7, 45), (1, 3)])
def test_any_latent_size_and_batch_work_and_items_are_independent(config, size):
    network = awakened(config)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, config.latent_channels, *size, generator=generator)
    low_res = torch.randn(3, 1, *size, generator=generator).clamp(-1, 1)
    leaves = torch.rand(3, -(-size[0] // 2), -(-size[1] // 2), generator=generator) < 0.4
    t = torch.tensor([0, 7, 14])
    together = run(network, x, t, low_res, leaves).merged
    assert together.shape == x.shape
    for item in range(3):
        one = slice(item, item + 1)
        alone = run(network, x[one], t[one], low_res[one], leaves[one]).merged
        torch.testing.assert_close(together[one], alone, atol=2e-5, rtol=0)


def test_without_active_leaves_the_tiny_preset_answers_with_its_upstream():
    network = awakened(TINY_T)
    x = torch.randn(1, 2, 32, 32, generator=torch.Generator().manual_seed(2))
    none = torch.zeros(1, 16, 16, dtype=torch.bool)
    said = run(network, x, torch.tensor([3]), x[:, :1], none)
    torch.testing.assert_close(said.merged, said.upstream, atol=0, rtol=0)


@pytest.mark.parametrize("everywhere", [False, True])
def test_the_noisy_latent_is_looked_at_where_there_is_noise(everywhere):
    network = awakened(replace(TINY_T, noise_everywhere=everywhere))
    generator = torch.Generator().manual_seed(3)
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=generator)
    leaves = torch.zeros(1, 16, 16, dtype=torch.bool)
    leaves[:, :4, :4] = True
    changed = x.clone()
    changed[..., 8:, :] += 1.0
    plan = network.plan(leaves)
    with torch.no_grad():
        first, second = (network(each, torch.tensor([5]), x[:, :1], z_y, plan).merged for each in (x, changed))
    assert torch.equal(first, second) != everywhere


def test_the_source_is_read_once_for_all_steps():
    network = awakened(TINY_T)
    generator = torch.Generator().manual_seed(9)
    x, z_y = torch.randn(2, 2, 2, 20, 34, generator=generator)
    plan = network.plan(torch.rand(2, 10, 17, generator=generator) < 0.3)
    with torch.no_grad():
        source = network.read_source(x[:, :1], z_y)
        for t in (0, 14):
            given = torch.tensor([t, t])
            known, asked, other = (
                network(x, given, x[:, :1], z_y, plan, features).merged
                for features in (source, None, Source(source.features + 1))
            )
            assert torch.equal(known, asked)
            assert not torch.equal(known, other)


def test_the_noisy_latent_reaches_the_answer_through_the_streams_alone():
    generator = torch.Generator().manual_seed(12)
    x, other, z_y = torch.randn(3, 1, 2, 32, 32, generator=generator)
    leaves = torch.zeros(1, 16, 16, dtype=torch.bool)
    leaves[:, :8, :8] = True
    changed = {}
    for alone in (False, True):
        network = awakened(
            replace(TINY_T, trunk_blocks=0, source_is_base=True, streams_alone=alone, noise_everywhere=True)
        )
        first, second = (run_from(network, noisy, z_y, leaves) for noisy in (x, other))
        assert not torch.equal(first, second)
        for stream in (network.upstream, network.downstream):
            torch.nn.init.zeros_(stream.final.linear.weight)
            torch.nn.init.zeros_(stream.final.linear.bias)
        first, second = (run_from(network, noisy, z_y, leaves) for noisy in (x, other))
        changed[alone] = not torch.equal(first, second)
    assert changed == {False: True, True: False}


def test_within_active_leaves_the_upstream_can_be_left_to_the_outside():
    generator = torch.Generator().manual_seed(12)
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=generator)
    leaves = torch.zeros(1, 16, 16, dtype=torch.bool)
    leaves[:, :8, :8] = True
    network = awakened(replace(TINY_T, trunk_blocks=0, head_blocks=0, upstream_outside=True))
    answer = run_from(network, x, z_y, leaves)
    for (
        parameter
    ) in network.upstream.final.parameters():  # its tokens, which the downstream attends to, stay as they are
        torch.nn.init.zeros_(parameter)
    silenced = run_from(network, x, z_y, leaves)
    inside = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    inside[..., :15, :15] = True  # one pixel less: the last convolution sees its neighbours
    assert torch.equal(answer[inside.expand_as(answer)], silenced[inside.expand_as(answer)])
    assert not torch.equal(answer, silenced)


def test_streams_alone_learn_from_random_weights():
    network = TwoStreamDenoiser(replace(TINY_T, trunk_blocks=0, source_is_base=True, streams_alone=True))
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(1))
    plan = network.plan(torch.ones(1, 16, 16, dtype=torch.bool))
    for _ in range(4):  # one step for each layer that starts as zero
        optimiser.zero_grad()
        network(x, torch.tensor([7]), z_y[:, :1], z_y, plan).merged.sub(x).square().mean().backward()
        optimiser.step()
    for stream in (network.upstream, network.downstream):
        assert stream.final.linear.weight.grad.abs().max() > 0
        assert stream.embed.project.weight.grad.abs().max() > 0


def run_from(network, noisy, z_y, leaves):
    with torch.no_grad():
        return network(noisy, torch.tensor([7]), z_y[:, :1], z_y, network.plan(leaves)).merged


def test_streams_alone_need_a_source_to_start_from():
    with pytest.raises(ConfigError, match="streams_alone needs source_is_base"):
        replace(TINY_T, streams_alone=True)


def test_a_network_without_an_encoder_of_the_source_reads_none():
    network = TwoStreamDenoiser(replace(TINY_T, source_channels=0, source_blocks=0))
    x = torch.zeros(1, 2, 32, 32)
    assert network.read_source(x[:, :1], x) is None


def block_inputs(leaves, *, leaf_mode, hidden=32):
    """Rows of the grid's active windows or leaves, and what a block of the downstream needs beside them."""
    generator = torch.Generator().manual_seed(4)
    plan = WindowPlan.from_mask(leaves, window=8, leaf_mode=leaf_mode)
    grid = torch.randn(*leaves.shape, hidden, generator=generator)
    condition, context = (torch.randn(len(leaves), *size, generator=generator) for size in ((hidden,), (2, 2, hidden)))
    return plan, plan.gather(grid), condition, context


def test_attention_among_active_leaves_is_attention_with_the_others_hidden():
    block = awakened(TINY_T).downstream.blocks[0]
    leaves = torch.zeros(1, 8, 8, dtype=torch.bool)
    leaves[:, 0, :3] = leaves[:, 5, 5] = True
    plan, rows, *_ = block_inputs(leaves, leaf_mode=True)
    with torch.no_grad():
        attention = block.window_attention
        query, key, value = attention.qkv(rows[:, 0]).chunk(3, dim=-1)
        heads = [(slice(None), slice(16 * head, 16 * head + 16)) for head in range(2)]
        weights = [(query[head] @ key[head].T / 4).softmax(dim=-1) @ value[head] for head in heads]
        expected = attention.out(torch.cat(weights, dim=-1))
        torch.testing.assert_close(attention(rows, plan, plan)[:, 0], expected, atol=1e-5, rtol=0)


def test_leaving_out_inactive_tokens_behind_the_last_attention_changes_nothing():
    block = awakened(replace(PRESETS["s"], hidden=32, depth=1, heads=2)).downstream.blocks[0]
    leaves = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(7)) < 0.1
    leaves[1] = False
    plan, rows, condition, context = block_inputs(leaves, leaf_mode=False)
    with torch.no_grad():
        known = block.context_attention.keys_values(context)
        modulation = block.modulate_by(condition)
        whole = plan.narrow(block(rows, modulation, known, plan, plan))
        narrowed = block(rows, modulation, known, plan, plan.narrowed)
    torch.testing.assert_close(narrowed, whole, atol=1e-5, rtol=0)


class WaitsForDevice(TorchDispatchMode):
    """Collects the operators after which a program on an accelerator has to wait for its result."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique")

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        by_mask = name in ("index", "index_put", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in self.WAITING or by_mask:
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("config", [TINY_T, replace(PRESETS["s"], hidden=32, depth=2, heads=2)], ids=["t", "paper"])
@pytest.mark.parametrize("items", [1, 3])
def test_no_step_of_the_sampler_waits_for_the_device(config, items):
    network = awakened(config)
    generator = torch.Generator().manual_seed(8)
    z_y = torch.randn(items, config.latent_channels, 32, 32, generator=generator)
    leaves = torch.rand(items, 16, 16, generator=generator) < 0.3
    schedule = ResidualShiftSchedule.from_config(ScheduleConfig()).respaced([4, 14])
    plan = network.plan(leaves)
    mask = on_finer_grid(leaves, 2)[:, None]
    steps = read_steps(network, schedule, torch.device("cpu"))
    with WaitsForDevice() as waits:
        sample(lambda x, t: network(x, steps[t], z_y[:, :1], z_y, plan).merged, z_y, mask, schedule, lambda _: z_y)
    assert waits.found == []
    with WaitsForDevice() as waits:
        network.plan(leaves)
    assert waits.found  # the plan itself waits, once a slice: the test can fail


@pytest.mark.parametrize("config", [TINY_T, replace(PRESETS["s"], hidden=32, depth=2, heads=2)], ids=["t", "paper"])
def test_a_step_of_many_windows_does_not_wait_for_the_device(config, monkeypatch):
    monkeypatch.setattr(WindowPlan, "ACCELERATED_CHUNK", 64)
    leaves = torch.ones(5, 32, 32, dtype=torch.bool)  # 80 windows: more than are computed at once
    with torch.device("meta"):
        network = TwoStreamDenoiser(config).eval()
        x, low_res, t = torch.empty(5, config.latent_channels, 64, 64), torch.empty(5, 1, 64, 64), torch.zeros(5)
    plan = network.plan(leaves).to(torch.device("meta"))
    assert len(plan.chunks) == 2
    said = network(x, t, low_res, x, plan)  # raises where a value is asked for: on this device there are none
    assert said.merged.shape == x.shape


@pytest.mark.parametrize("config", [TINY_T, replace(PRESETS["s"], hidden=32, depth=2, heads=2)], ids=["t", "paper"])
def test_a_step_that_was_read_once_serves_all_images(config):
    network = awakened(config)
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(3, config.latent_channels, 32, 32, generator=generator)
    leaves = torch.rand(3, 16, 16, generator=generator) < 0.3
    with torch.no_grad():
        once, other = (network.read_step(torch.tensor([t])) for t in (7, 8))
    expected = run(network, x, torch.tensor([7, 7, 7]), x[:, :1], leaves).merged
    torch.testing.assert_close(run(network, x, once, x[:, :1], leaves).merged, expected, atol=1e-5, rtol=0)
    assert not torch.allclose(run(network, x, other, x[:, :1], leaves).merged, expected)


def test_a_fresh_tiny_network_is_the_identity_on_the_upsampled_latent():
    network = TwoStreamDenoiser(TINY_T).eval()
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        said = network(x, torch.tensor([14]), z_y[:, :1], z_y, network.plan(torch.ones(1, 16, 16, dtype=torch.bool)))
    torch.testing.assert_close(said.merged, z_y, atol=0, rtol=0)


@pytest.mark.parametrize("leaf_mode", [False, True])
@pytest.mark.parametrize("rows", [16, 24])
def test_embedding_the_gathered_patches_is_gathering_the_embedded_ones(leaf_mode, rows):
    generator = torch.Generator().manual_seed(8)
    embed = awakened(TINY_T).downstream.embed
    x = torch.randn(3, embed.project.in_channels, 2 * rows, 32, generator=generator)
    plan = WindowPlan.from_mask(torch.rand(3, rows, 16, generator=generator) < 0.05, window=8, leaf_mode=leaf_mode)
    torch.testing.assert_close(embed.at(x, plan.places), plan.gather(embed(x)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("leaf_mode", [True, False])
def test_images_attended_in_one_go_are_those_attended_one_by_one(leaf_mode):
    leaves = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(3)) < 0.1
    leaves[2] = False
    plan, rows, _, context = block_inputs(leaves, leaf_mode=leaf_mode)
    attention = awakened(replace(PRESETS["s"], hidden=32, depth=1, heads=2)).downstream.blocks[0].context_attention
    with torch.no_grad():
        known, query = attention.keys_values(context).flatten(1, 2), attention.q(rows)
        one_by_one, at_once = attention.image_by_image(query, known, plan), attention.all_images(query, known, plan)
    torch.testing.assert_close(at_once, one_by_one, atol=1e-6, rtol=1e-5)


def test_chunks_of_windows_do_not_change_the_answer(monkeypatch):
    network = awakened(TINY_T)
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(3, 2, 48, 48, generator=generator)
    leaves = torch.rand(3, 24, 24, generator=generator) < 0.05
    t = torch.tensor([1, 2, 3])
    whole = run(network, x, t, x[:, :1], leaves).merged
    monkeypatch.setattr(WindowPlan, "CHUNK", 2)
    torch.testing.assert_close(run(network, x, t, x[:, :1], leaves).merged, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"hidden": 100, "heads": 6},
        {"trained_size": 100},
        {"trunk_blocks": 2},
        {"upstream_patch": 5},
        {"source_channels": 8},
        {"trunk_channels": 8, "source_blocks": 2},
    ],
)
def test_a_shape_that_cannot_be_built_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=r"hidden|trained_size|trunk|patches|source"):
        DenoiserConfig(**wrong)
