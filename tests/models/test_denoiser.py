"""The two-stream denoiser against the paper's numbers and its own promises."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from qdm_med.errors import ConfigError
from qdm_med.models.convert import denoiser_config_from_released, denoiser_from_released, denoiser_to_released
from qdm_med.models.denoiser import PRESETS, DenoiserConfig, TwoStreamDenoiser, count_parameters, paper_preset

TOLERANCE = 1e-4  # the golden README's: summation order alone gives 1e-5

TINY_T = replace(PRESETS["t"], latent_channels=2, hidden=32, depth=2, heads=2, trunk_channels=8)


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
        network = TwoStreamDenoiser(paper_preset(preset))
    assert count_parameters(network) == parameters


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
    from qdm_med.models.embeddings import timestep_embedding

    torch.testing.assert_close(timestep_embedding(torch.arange(15)), io["timestep_embedding"], atol=1e-6, rtol=0)
    with torch.no_grad():
        torch.testing.assert_close(denoiser.upstream.time(io["t"]), io["t_emb_up"], atol=TOLERANCE, rtol=0)
        seen = torch.cat([io["x"], io["lq"]], dim=1)
        torch.testing.assert_close(denoiser.upstream(seen, io["t"])[1], io["embeds"], atol=TOLERANCE, rtol=0)


def test_conversion_there_and_back_is_exact(denoiser, released):
    back = denoiser_to_released(denoiser)
    assert back.keys() == released.keys()
    for name, value in released.items():
        # Ours computes the position tables in float64: the last bit of float32 may differ.
        tolerance = 1e-7 if name.endswith("pos_embed") else 0
        torch.testing.assert_close(back[name], value.float(), atol=tolerance, rtol=0)


def awakened(config: DenoiserConfig) -> TwoStreamDenoiser:
    """A network whose zero-initialised layers were filled, so that every path shows in the output."""
    torch.manual_seed(0)
    network = TwoStreamDenoiser(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


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


def test_the_tiny_preset_does_not_look_at_the_noisy_latent_outside_the_mask():
    network = awakened(TINY_T)
    generator = torch.Generator().manual_seed(3)
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=generator)
    leaves = torch.zeros(1, 16, 16, dtype=torch.bool)
    leaves[:, :4, :4] = True
    changed = x.clone()
    changed[..., 8:, :] += 1.0
    plan = network.plan(leaves)
    with torch.no_grad():
        first, second = (network(each, torch.tensor([5]), x[:, :1], z_y, plan).merged for each in (x, changed))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_attention_among_active_leaves_ignores_the_others():
    network = awakened(replace(TINY_T, trunk_blocks=0, head_blocks=0))
    leaves = torch.zeros(1, 8, 8, dtype=torch.bool)
    leaves[:, 0, :3] = True
    plan = network.plan(leaves)
    tokens = torch.randn(1, 64, 32, generator=torch.Generator().manual_seed(4))
    other = tokens.clone()
    other[:, 3:] = 7.0
    condition, context = torch.randn(1, 32), torch.randn(1, 4, 32)
    block = network.downstream.blocks[0]
    with torch.no_grad():
        keys_values = block.context_attention.keys_values(context)
        first, second = (block(each, condition, keys_values, plan)[:, :3] for each in (tokens, other))
    torch.testing.assert_close(first, second, atol=0, rtol=0)


def test_a_fresh_tiny_network_is_the_identity_on_the_upsampled_latent():
    network = TwoStreamDenoiser(TINY_T).eval()
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        said = network(x, torch.tensor([14]), z_y[:, :1], z_y, network.plan(torch.ones(1, 16, 16, dtype=torch.bool)))
    torch.testing.assert_close(said.merged, z_y, atol=0, rtol=0)


def test_chunks_of_windows_do_not_change_the_answer(monkeypatch):
    network = awakened(TINY_T)
    generator = torch.Generator().manual_seed(6)
    x = torch.randn(3, 2, 48, 48, generator=generator)
    leaves = torch.rand(3, 24, 24, generator=generator) < 0.05
    t = torch.tensor([1, 2, 3])
    whole = run(network, x, t, x[:, :1], leaves).merged
    monkeypatch.setattr(type(network.downstream), "CHUNK", 2)
    torch.testing.assert_close(run(network, x, t, x[:, :1], leaves).merged, whole, atol=2e-5, rtol=0)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 100, "heads": 6}, {"trained_size": 100}, {"trunk_blocks": 2}, {"upstream_patch": 5}]
)
def test_a_shape_that_cannot_be_built_is_refused_by_name(wrong):
    with pytest.raises(ConfigError, match=r"hidden|trained_size|trunk|patches"):
        DenoiserConfig(**wrong)
