"""Med-SR4 and Med-SR8: reproducible rows, and the model scored as it is run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.checkpoint import Checkpoint, ModelCard
from qdm_med.data.slice_writer import SliceStoreWriter
from qdm_med.data.slices import SliceRecord, SliceStore, anonymous_key, slice_checksum
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, qdm_methods, run_benchmark, save_results, table
from qdm_med.evaluation.evaluate import summarise
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscale import Upscaler
from qdm_med.models.autoencoder import AutoencoderConfig, KlVae
from qdm_med.models.denoiser import PRESETS, TwoStreamDenoiser
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "store"
    with SliceStoreWriter(folder, slice_shape=(64, 64)) as writer:
        for number in range(4):
            rng = np.random.default_rng(number)
            hu = np.kron(rng.integers(-900, 900, (8, 8)), np.ones((8, 8))).astype(np.int16)
            patient = anonymous_key(f"patient {number // 2}")
            writer.add(hu, SliceRecord("val", patient, patient, 0.0, 1.0, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(folder)


@pytest.fixture(scope="module")
def checkpoint():
    """A fresh tiny network: the identity on the upsampled latent."""
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(latent_channels=2, channels=(8, 16), res_blocks=(1, 1))
    denoiser = replace(PRESETS["t"], latent_channels=2, hidden=16, depth=1, heads=2, trunk_channels=8)
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(denoiser).eval()
    return Checkpoint(ModelCard("tiny", autoencoder, denoiser, scales=(4,), steps=(2,)), *networks, sha256="0" * 64)


def scores(rows):
    return [(row.method, row.patient, dict(row.scores)) for row in rows]


def test_two_runs_give_the_same_scores(store, checkpoint):
    options = BenchmarkOptions("med-sr4", steps=(1, 2), thresholds=(0.0, 0.15))
    first, second = (run_benchmark(store, checkpoint, options, device=CPU) for _ in range(2))
    assert scores(first) == scores(second)
    assert len({row.method for row in first}) == 2 + 4
    assert len(first) == 6 * 4


def test_the_model_is_scored_as_upscale_runs_it(store, checkpoint):
    options = BenchmarkOptions("med-sr4")
    (method,) = qdm_methods(checkpoint, options, CPU).values()
    low_res = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    scored = method(low_res, 4)
    hu = checkpoint.card.intensity.to_hu(low_res[0, 0].numpy())
    upscaler = Upscaler(checkpoint, UpscaleOptions(scale=4), device=CPU)
    expected = upscaler.upscale_slice(CtSlice(hu, np.zeros_like(hu, bool), 0.0), "any: the threshold leaves no noise")
    assert scored.shape == (1, 1, 64, 64)
    np.testing.assert_allclose(
        checkpoint.card.intensity.to_hu(scored[0, 0].numpy()), np.clip(expected.hu, -1024, 3071), atol=0.01
    )


def test_every_nth_slice_and_progress(store, checkpoint):
    seen = []
    rows = run_benchmark(
        store,
        checkpoint,
        BenchmarkOptions("med-sr4", every=2),
        device=CPU,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len({row.sha256 for row in rows}) == 2
    assert seen[-1] == (2, 2)


def test_the_table_has_a_line_a_method_and_results_are_saved(store, checkpoint, tmp_path):
    rows = run_benchmark(store, checkpoint, BenchmarkOptions("med-sr4"), device=CPU)
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 3
    assert lines[2].startswith("| bicubic |")
    save_results(tmp_path, rows, summarise(rows))
    assert len((tmp_path / "cases.jsonl").read_text().splitlines()) == len(rows)
    assert (tmp_path / "summary.json").exists()


def test_what_cannot_be_run_is_refused(store, checkpoint):
    with pytest.raises(ConfigError, match="med-sr2"):
        BenchmarkOptions("med-sr2")
    with pytest.raises(ConfigError, match="every"):
        BenchmarkOptions("med-sr4", every=0)
    with pytest.raises(CheckpointError, match="not for x8"):
        run_benchmark(store, checkpoint, BenchmarkOptions("med-sr8"), device=CPU)
