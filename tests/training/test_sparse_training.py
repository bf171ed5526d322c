"""Training as it is run: degradations, both quadtrees, withheld leaves, and a start from a trained checkpoint."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.checkpoints.model import Checkpoint, ModelCard, load_checkpoint, save_checkpoint
from qdm_med.data.degradation import transforms
from qdm_med.data.degradation.clinical import ClinicalConfig
from qdm_med.data.degradation.degrade import BENCHMARK, SCANNER, TRAINING, degrade
from qdm_med.data.store.slices import SliceStore, anonymous_key
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import ConfigError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import SlicePlanner
from qdm_med.inference.super_resolution import super_resolve
from qdm_med.inference.tiling import Tiling
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.training.denoiser import DenoiserTask
from qdm_med.training.objective import DenoiserObjective, DenoiserTrainingConfig
from qdm_med.training.task import Run, Share
from qdm_med.volume import CtSlice
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

SHAPE = TINY_DENOISER
WHOLE = Share(0, 1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    few = np.kron(np.random.default_rng(1).integers(-100, 900, (3, 3)), np.ones((22, 22)))[:64, :64].astype(np.int16)
    slices = [(blocky(0, 64), "train", anonymous_key("train")), (few, "val", anonymous_key("val"))]
    return SliceStore.open(write_store(tmp_path_factory.mktemp("data") / "store", slices))


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(1)
    autoencoder = TINY_AUTOENCODER
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(SHAPE).eval()
    return Checkpoint(ModelCard("trained", autoencoder, SHAPE), *networks, sha256="1" * 64)


def task(store, base, initial=None, shape=SHAPE, quadtree="paper", **training):
    card = ModelCard(
        "tiny", base.card.autoencoder, shape, ScheduleConfig(), threshold=0.15, quadtree=quadtree, steps=(2, 2)
    )
    run = Run(store, batch=8, seed=3, device=torch.device("cpu"))
    return DenoiserTask(card, DenoiserTrainingConfig(crops=(64,), **training), run, base, initial)


def test_leaves_are_withheld_beyond_a_line_in_the_asked_share_of_the_items(store, trained):
    dense = task(store, trained, thresholds=(0.0,), withheld_share=0.5)
    leaves = torch.cat([dense.batch(dense.draw(step, WHOLE)).known.leaves for step in range(12)])
    whole = leaves.flatten(1).all(dim=1)
    assert 0.3 < whole.float().mean() < 0.7
    shares = leaves[~whole].flatten(1).float().mean(dim=1)
    assert shares.min() < 0.4 < 0.6 < shares.max()
    # One side of a line: every row changes between active and withheld at most once.
    changes = (leaves[~whole].int().diff(dim=2) != 0).sum(dim=2)
    assert changes.max() == 1


def test_nothing_is_withheld_unless_asked(store, trained):
    every = task(store, trained, thresholds=(0.0,))
    assert all(every.batch(every.draw(step, WHOLE)).known.leaves.all() for step in range(4))


def test_the_adaptive_quadtree_marks_its_share_of_the_batches(store, trained):
    kinds = [
        task(store, trained, adaptive_share=share)._draw_quadtree(step).kind
        for share in (0.0, 0.5, 1.0)
        for step in range(60)
    ]
    assert kinds[:60] == ["paper"] * 60
    assert 15 < kinds[60:120].count("adaptive") < 45
    assert kinds[120:] == ["adaptive"] * 60


def test_every_degradation_has_its_share_of_the_batches(store, trained, monkeypatch):
    degraded = []
    monkeypatch.setattr(
        transforms, "degrade", lambda *given, **how: degraded.append(given[1][0]) or degrade(*given, **how)
    )
    mixed = task(store, trained, benchmark_share=0.25, scanner_share=0.5)
    for step in range(60):
        mixed.batch(mixed.draw(step, WHOLE))
    kinds = [one.kind for one in degraded]
    assert 1 / 3 < kinds.count("scanner") / len(kinds) < 2 / 3  # item by item, a family a batch
    # Photon noise beyond the benchmark's range is the training range's alone.
    assert any(one.kind == "real-esrgan" and one.noise == "poisson" and one.noise_strength > 0.3 for one in degraded)
    shares = DenoiserTrainingConfig(benchmark_share=0.25, scanner_share=0.5)
    drawn = Counter(id(shares.degradation_at(place)) for place in np.linspace(0, 1, 100, endpoint=False))
    assert drawn == {id(BENCHMARK): 25, id(SCANNER): 50, id(TRAINING): 25}


def test_shares_of_more_than_the_whole_are_refused():
    with pytest.raises(ConfigError, match="benchmark_share, scanner_share and clinical_share"):
        DenoiserTrainingConfig(benchmark_share=0.7, scanner_share=0.4)


def test_a_run_starts_from_the_weights_of_a_trained_denoiser(store, trained, tmp_path):
    started = task(store, trained, trained).objective.denoiser.state_dict()
    for name, value in trained.denoiser.state_dict().items():
        torch.testing.assert_close(started[name], value, atol=0, rtol=0)
    path = tmp_path / "start.safetensors"
    save_checkpoint(path, trained.card, trained.autoencoder, trained.denoiser)
    loaded = load_checkpoint(path)
    run = task(store, loaded, loaded)
    run.export(run.objective, tmp_path / "out.safetensors", {})
    assert load_checkpoint(tmp_path / "out.safetensors").card.training["initial_sha256"] == loaded.sha256


def test_a_start_may_bring_noise_into_all_leaves_and_the_perceptual_term_with_it(store, trained):
    everywhere = task(store, trained, trained, shape=replace(SHAPE, noise_everywhere=True), thresholds=(0.15,))
    known, paper = (
        run.batch(run.draw(0, WHOLE)).known for run in (everywhere, task(store, trained, thresholds=(0.15,)))
    )
    assert torch.equal(known.leaves, paper.leaves)
    assert known.mask.all()
    assert not paper.mask.all()
    assert known.plan.window_count == paper.plan.window_count


def test_a_start_may_add_an_encoder_of_the_source_and_answers_as_before(store, trained):
    plain = replace(SHAPE, source_channels=0, source_blocks=0)
    torch.manual_seed(2)
    network = TwoStreamDenoiser(plain).eval()
    torch.nn.init.normal_(network.read_out.weight)  # an answer of its own
    initial = replace(trained, card=replace(trained.card, denoiser=plain), denoiser=network)
    started = task(store, trained, initial).objective.denoiser.eval()
    generator = torch.Generator().manual_seed(3)
    x, z_y = torch.randn(2, 1, 2, 32, 32, generator=generator)
    with torch.no_grad():
        answers = [
            one(x, torch.tensor([7]), z_y[:, :1], z_y, one.plan(torch.ones(1, 16, 16, dtype=torch.bool))).merged
            for one in (started, network)
        ]
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], z_y)
    with pytest.raises(ConfigError, match="no denoiser of the configured shape"):
        task(store, trained, trained, shape=plain)


def test_a_start_may_come_from_a_network_that_attends_to_the_whole_map_but_of_no_other_reach(store, trained):
    near = replace(SHAPE, reach=1)
    started = task(store, trained, trained, shape=near).objective.denoiser.state_dict()
    for name, value in trained.denoiser.state_dict().items():
        torch.testing.assert_close(started[name], value)
    initial = replace(trained, card=replace(trained.card, denoiser=near), denoiser=TwoStreamDenoiser(near))
    task(store, trained, initial, shape=near)
    for other in (0, 2):
        with pytest.raises(ConfigError, match="no denoiser of the configured shape"):
            task(store, trained, initial, shape=replace(SHAPE, reach=other))


def test_a_start_may_make_the_encoder_of_the_source_deeper_and_answers_as_before(store, trained):
    deeper = replace(SHAPE, source_blocks=SHAPE.source_blocks + 2)
    torch.manual_seed(4)
    network = TwoStreamDenoiser(SHAPE).eval()
    torch.nn.init.normal_(network.source.shift.weight)  # an answer of its own
    run = task(store, trained, replace(trained, denoiser=network), shape=deeper, **SOURCE_ALONE)
    started = run.objective.denoiser
    low_res, z_y = torch.randn(2, 1, 2, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        answers = [one.expect(low_res[:, :1], z_y) for one in (started, network)]
    assert torch.equal(*answers)
    assert not torch.equal(answers[0], z_y)
    run.objective(run.batch(run.draw(0, WHOLE)))["loss"].backward()
    gradient = started.source.blocks[-1].conv2.weight.grad
    assert gradient is not None
    assert gradient.any(), "what is new cannot learn"


def test_clinical_pairs_are_sampled_as_the_configuration_says(store, trained, monkeypatch):
    degraded = []
    monkeypatch.setattr(
        transforms, "degrade", lambda *given, **how: degraded.append(given[1][0]) or degrade(*given, **how)
    )
    loud = ClinicalConfig(sharp_share=1.0, noise_hu=(50.0, 50.0), quiet_share=0.0)
    run = task(store, trained, benchmark_share=0.0, clinical_share=1.0, clinical=loud)
    run.batch(run.draw(0, WHOLE))
    assert {(one.kind, one.fwhm) for one in degraded} == {("clinical", 0.0)}
    np.testing.assert_allclose([one.noise_hu for one in degraded], 50.0)
    assert run.objective.config.domain["domain"]["noise_hu"] == [0.0, 50.0]


SOURCE_ALONE = {"downstream_weight": 0.0, "upstream_weight": 0.0, "source_weight": 2.0}


def test_the_encoder_of_the_source_is_trained_alone_where_nothing_else_has_a_weight(store, trained, monkeypatch):
    run = task(store, trained, **SOURCE_ALONE)
    denoiser = run.objective.denoiser
    batch = run.batch(run.draw(0, WHOLE))
    monkeypatch.setattr(denoiser, "forward", None)  # whoever calls it fails
    losses = run.objective(batch)
    assert losses.keys() == {"source", "loss"}
    # It starts as z_y: the error is that of the upsampled source, twice.
    plain = torch.nn.functional.mse_loss(trained.autoencoder.decode(batch.known.z_y), batch.high_res)
    torch.testing.assert_close(losses["loss"], 2 * plain)
    losses["loss"].backward()
    learning = {name.split(".")[0] for name, value in denoiser.named_parameters() if value.grad is not None}
    assert learning == {"source"}
    figures = run.validate(run.objective).figures
    assert figures.keys() == {"psnr_x4", "bicubic_x4", "psnr_x8", "bicubic_x8"}


def test_the_source_counts_beside_the_denoiser(store, trained):
    run = task(store, trained)
    batch = run.batch(run.draw(0, WHOLE))
    plain, both = (task(store, trained, trained, source_weight=weight).objective(batch) for weight in (0.0, 3.0))
    torch.testing.assert_close(both["loss"], plain["loss"] + 3 * both["source"])
    assert both["source"] > 0


def test_without_an_encoder_of_the_source_it_cannot_be_trained(store, trained):
    run = task(store, trained, shape=replace(SHAPE, source_channels=0, source_blocks=0), **SOURCE_ALONE)
    with pytest.raises(ConfigError, match="set source_channels and source_blocks"):
        run.objective(run.batch(run.draw(0, WHOLE)))


def test_an_objective_that_asks_for_nothing_is_refused():
    with pytest.raises(ConfigError, match="no weight of the objective compares with the truth"):
        DenoiserTrainingConfig(downstream_weight=0.0, upstream_weight=0.0)
    with pytest.raises(ConfigError, match="no weight of the objective compares with the truth"):
        DenoiserTrainingConfig(downstream_weight=0.0, upstream_weight=0.0, agreement_weight=1.0)
    with pytest.raises(ConfigError, match="agreement_weight and tissue_weight judge"):
        DenoiserTrainingConfig(downstream_weight=0.0, upstream_weight=0.0, source_weight=1.0, agreement_weight=1.0)


@pytest.mark.parametrize(("until", "share"), [(1.0, 1.0), (0.4, 0.5), (0.0, 0.0)])
def test_the_perceptual_term_counts_at_the_clean_end_of_the_chain(store, trained, until, share):
    run = task(store, trained, thresholds=(0.0,))
    config = DenoiserTrainingConfig(crops=(64,), perceptual_weight=2.0, perceptual_until=until)
    objective = DenoiserObjective(
        run.objective.denoiser,
        run.objective.schedule,
        config,
        trained.autoencoder.decode,
        lambda image, reference: torch.ones(len(image)),
    )
    timesteps = torch.tensor([0, 2, 4, 5, 6, 7, 9, 14])  # of 15: the first four are below 0.4
    losses = objective(run.batch(run.draw(0, WHOLE))._replace(t=timesteps))
    assert float(losses["perceptual"].detach()) == pytest.approx(share)


def test_a_start_of_another_shape_or_another_autoencoder_is_refused(store, trained):
    with pytest.raises(ConfigError, match="shape"):
        task(store, trained, trained, shape=replace(SHAPE, depth=2))
    torch.manual_seed(2)
    other = replace(trained, autoencoder=KlVae(trained.card.autoencoder))
    with pytest.raises(ConfigError, match="--vae"):
        task(store, other, trained)


@pytest.mark.parametrize("quadtree", ["paper", "adaptive"])
def test_validation_refines_the_leaves_that_upscale_would(store, trained, monkeypatch, quadtree):
    run = task(store, trained, quadtree=quadtree)
    seen = []

    def look(autoencoder, network, low_res, leaves, **how):
        seen.append((low_res, leaves, how["scale"]))
        return super_resolve(autoencoder, network, low_res, leaves, **how)

    monkeypatch.setattr("qdm_med.training.denoiser.super_resolve", look)
    run.validate(run.objective)
    assert seen
    for low_res, leaves, scale in seen:
        card = run._card
        planner = SlicePlanner(
            card.intensity, UpscaleOptions(scale=scale).quadtree_for(card), Tiling.of(64), scale, card.denoiser
        )
        hu = card.intensity.to_hu(low_res[0, 0].numpy())
        plan = planner.plan(CtSlice(hu, np.zeros(hu.shape, bool), 0.0))
        marked = torch.nn.functional.interpolate(leaves[None].float(), size=hu.shape, mode="nearest")[0, 0] > 0
        np.testing.assert_array_equal(marked.numpy(), plan.leaves)
        assert plan.leaves.any()
    others = task(store, trained, quadtree={"paper": "adaptive", "adaptive": "paper"}[quadtree])
    before, seen[:] = [leaves for _, leaves, _ in seen], []
    others.validate(others.objective)
    assert any(not torch.equal(one, leaves) for one, (_, leaves, _) in zip(before, seen, strict=True))
