"""Every configuration loads; the paper's S and autoencoder take a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from qdm_med.diffusion.ddpm import DdpmConfig
from qdm_med.errors import ConfigError
from qdm_med.intensity import HuWindow
from qdm_med.models.autoencoder.kl_vae import PAPER_SIZE, KlVae
from qdm_med.models.compared.image_network import ImageNetwork
from qdm_med.models.qdm.config import PRESETS
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.natural.experiment import load_experiment
from qdm_med.serialise import from_mapping, to_mapping
from qdm_med.training.adversary import PatchAdversary
from qdm_med.training.comparison import ComparisonConfig
from qdm_med.training.experiment import load_config, read_yaml, save_config
from qdm_med.training.vae import VaeBatch, VaeObjective, structural_distance

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))
COMPARISONS = sorted((Path(__file__).resolve().parent.parent / "configs" / "comparisons").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_loads_and_is_named_after_its_file(path):
    assert load_experiment(path).name == path.stem.replace("_", "-")


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_trained_by_a_configuration(preset):
    described = [load_config(path).denoiser for path in CONFIGS if path.stem.startswith(f"qdm_{preset}")]
    assert PRESETS[preset] in described


def test_the_baselines_on_latents_differ_from_each_other_in_the_chain_alone():
    for size in ("t", "paper_x4", "paper_x8"):
        resshift, ldm = (
            load_config(next(path for path in CONFIGS if path.stem == f"{name}_{size}")) for name in ("resshift", "ldm")
        )
        chain = {"name": ldm.name, "schedule": DdpmConfig(), "steps": ldm.steps}
        same_steps = replace(ldm.training, last_timestep_share=resshift.training.last_timestep_share)
        assert replace(resshift, **chain) == replace(ldm, training=same_steps)


@pytest.mark.parametrize("path", [path for path in CONFIGS if path.stem[:6] in ("qdm_s_", "qdm_b_", "qdm_l_")], ids=str)
def test_the_papers_configurations_are_the_papers(path):
    config = load_config(path)
    assert (config.threshold, config.training.thresholds, config.steps) == (0.15, (0.15,), (15,))
    assert config.denoiser.condition_channels == 3
    assert (config.schedule.steps, config.schedule.power, config.schedule.kappa) == (15, 0.3, 2.0)
    loop = config.loop
    assert (loop.steps, loop.batch, loop.batch // loop.accumulate, loop.learning_rate) == (50_000, 64, 8, 5e-5)
    assert (loop.ema, loop.ema_warmup, loop.clip, loop.precision) == (0.999, False, 0.0, "mixed")
    assert (loop.warmup, loop.cosine) == (0, False)
    weights = config.training
    assert (weights.downstream_weight, weights.upstream_weight) == (1.0, 1.0)
    assert (weights.decoded_weight, weights.perceptual_weight, weights.benchmark_share) == (0.0, 0.0, 0.0)


def test_methods_of_the_papers_size_are_trained_as_qdm_is():
    for scale in (4, 8):
        qdm = load_config(next(path for path in CONFIGS if path.stem == f"qdm_l_x{scale}"))
        for name, steps in (("downstream_l", 50_000), ("resshift_paper", 50_000), ("ldm_paper", 50_000)):
            other = load_config(next(path for path in CONFIGS if path.stem == f"{name}_x{scale}"))
            assert other.loop == replace(qdm.loop, steps=steps)
            same = {"thresholds": (0.15,), "upstream_weight": 1.0}
            assert replace(other.training, **same) == qdm.training
        for name, millions in (("rrdb_paper", 16.7), ("swinir_paper", 11.5)):
            image = load_config(next(path for path in CONFIGS if path.stem == f"{name}_x{scale}"))
            assert image.loop == replace(qdm.loop, steps=100_000)
            assert image.intensity == HuWindow()
            size = sum(one.numel() for one in ImageNetwork(image.image_network, scale).parameters())
            assert size / 1e6 == pytest.approx(millions, rel=0.05)


def test_the_papers_autoencoder_has_the_released_size_window_and_factor():
    config = load_config(next(path for path in CONFIGS if path.stem == "vae_paper"))
    with torch.device("meta"):
        parameters = sum(one.numel() for one in KlVae(config.autoencoder).parameters())
    assert round(parameters / 1e6, 2) == 55.31
    assert config.intensity == HuWindow(40.0, 400.0)
    assert config.vae.latent_scale == 0.1
    loop = config.loop
    assert (loop.learning_rate, loop.warmup, loop.cosine) == (5e-5, 0, False)
    assert (loop.ema, loop.ema_warmup, loop.clip, loop.precision) == (0.999, False, 0.0, "mixed")


def test_the_papers_s_takes_a_training_step():
    config = load_config(next(path for path in CONFIGS if path.stem == "qdm_s_x4"))
    torch.manual_seed(0)
    network = TwoStreamDenoiser(config.denoiser)
    optimiser = torch.optim.Adam(network.parameters(), lr=config.loop.learning_rate)
    x, target = torch.randn(2, 1, 3, 32, 32)
    plan = network.plan(torch.ones(1, 16, 16, dtype=torch.bool))
    losses = []
    for _ in range(3):
        said = network(x, torch.tensor([7]), x[:, :1], x, plan)
        loss = torch.nn.functional.mse_loss(said.merged, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_the_papers_autoencoder_and_its_discriminator_take_a_step():
    config = load_config(next(path for path in CONFIGS if path.stem == "vae_paper"))
    torch.manual_seed(0)
    adversary = PatchAdversary(3, config.vae.discriminator_channels, config.vae.discriminator_layers)
    objective = VaeObjective(KlVae(config.autoencoder), config.vae, adversary, structural_distance)
    assert config.autoencoder == PAPER_SIZE
    assert config.vae.adversarial_start < config.loop.steps
    losses = objective(VaeBatch(torch.rand(1, 1, 32, 32) * 2 - 1, torch.randn(1, 3, 8, 8), adversarial=True))
    assert losses.keys() == {"loss", "l1", "mse", "kl", "perceptual", "adversarial", "discriminator"}
    terms = losses["l1"] + 1e-6 * losses["kl"] + losses["perceptual"] + 0.01 * losses["adversarial"]
    torch.testing.assert_close(losses["loss"].float(), terms.float())
    (losses["loss"] + losses["discriminator"]).backward()
    assert all(value.grad is not None and value.grad.isfinite().all() for value in objective.parameters())


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda path: path.stem)
def test_every_comparison_names_configurations_that_fit_its_models(path):
    comparison = from_mapping(ComparisonConfig, read_yaml(path))
    assert {member.model for member in comparison.members} == {"qdm", "resshift", "ldm", "rrdb", "swinir"}
    for member in comparison.members:
        config = load_config(path.parent / member.config)
        if member.model in ("rrdb", "swinir"):
            assert config.image_network.architecture == member.model
            assert len(config.scales) == 1
        else:
            assert (config.denoiser or config.unet) is not None
            assert isinstance(config.schedule, DdpmConfig) is (member.model == "ldm")
    alone = load_config(path.parent / comparison.members[1].config)
    assert not alone.denoiser.upstream


def test_an_unknown_key_is_refused_by_name(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("name: x\nloop: {stepz: 3}\n")
    with pytest.raises(ConfigError, match=r"config.yaml.loop: unknown stepz"):
        load_config(path)


@pytest.mark.parametrize("content", ["- a\n", "name: [", "\x00"])
def test_a_file_that_is_no_configuration_is_refused(tmp_path, content):
    path = tmp_path / "config.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        load_config(path)
    with pytest.raises(ConfigError, match=r"absent\.yaml"):
        load_config(tmp_path / "absent.yaml")


def test_values_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="batch"):
        replace(load_config(CONFIGS[0]).loop, batch=0)


def test_a_preset_stands_for_its_numbers_and_what_is_written_beside_it_comes_first(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ndenoiser:\n  preset: s\n  depth: 2\n")
    assert load_config(path).denoiser == replace(PRESETS["s"], depth=2)
    save_config(load_config(path), tmp_path / "spelt_out.yaml")
    assert "preset" not in (tmp_path / "spelt_out.yaml").read_text()
    assert load_config(tmp_path / "spelt_out.yaml") == load_config(path)


def test_an_unknown_preset_is_refused_by_name(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ndenoiser:\n  preset: xl\n")
    with pytest.raises(ConfigError, match=r"a\.yaml: denoiser\.preset 'xl' is unknown; known: t, c, s, b, l"):
        load_config(path)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_no_configuration_repeats_a_number_of_its_preset(path):
    section = yaml.safe_load(path.read_text()).get("denoiser") or {}
    numbers = to_mapping(PRESETS[section["preset"]]) if "preset" in section else {}
    assert not {key for key, value in section.items() if numbers.get(key) == value}


@pytest.mark.parametrize("scales", ["[2]", "[]", "[4, 6]", "[0]"])
def test_scales_that_no_latent_has_pixels_for_are_refused(tmp_path, scales):
    path = tmp_path / "a.yaml"
    path.write_text(f"name: a\nscales: {scales}\nsteps: [4]\n")
    with pytest.raises(ConfigError, match=r"scales .* must be multiples of 4"):
        load_config(path)


def test_a_preset_that_is_added_to_the_table_is_known_to_every_configuration(tmp_path, monkeypatch):
    smaller = replace(PRESETS["s"], hidden=192)
    monkeypatch.setattr("qdm_med.models.qdm.config.PRESETS", {**PRESETS, "xs": smaller})
    path = tmp_path / "a.yaml"
    path.write_text("name: a\ndenoiser:\n  preset: xs\n")
    assert load_config(path).denoiser == smaller
