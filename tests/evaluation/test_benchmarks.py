"""Med-SR4 and Med-SR8: reproducible rows, and methods scored as they are run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_med.errors import CheckpointError, ConfigError, DataError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_methods, run_benchmark
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.evaluate import evaluate, run_method
from qdm_med.evaluation.methods.method import Restored
from qdm_med.evaluation.selection import select_slices

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def run(store, checkpoint):
    def run(options, **others):
        selection = select_slices(store, options.split, options.every, checkpoint.card)
        methods = benchmark_methods(checkpoint, options, CPU)
        return run_benchmark(store, selection, checkpoint, options, methods, **others)

    return run


def scores(rows):
    return [(row.method, row.patient, repr(dict(row.scores))) for row in rows]


def test_two_runs_give_the_same_scores(run):
    options = BenchmarkOptions("med-sr4", steps=(1, 2), thresholds=(0.0, 0.15))
    first, second = (run(options) for _ in range(2))
    assert scores(first) == scores(second)
    # Bicubic, Lanczos, and two steps by two thresholds, of which s = 0 is the dense variant too.
    assert len({row.method for row in first}) == 2 + 4
    assert len(first) == 6 * 4


def test_modes_keep_their_own_steps(run):
    rows = run(BenchmarkOptions("med-sr4", every=4, steps=(2, 3), methods=("qdm", "faithful", "detailed")))
    names = [
        f"tiny, {how}"
        for how in ("2 steps, s = 0.15", "3 steps, s = 0.15", "mean of 4, 2 steps, s = 0.15", "8 steps, s = 0")
    ]
    assert list(dict.fromkeys(row.method for row in rows)) == names


def test_every_nth_slice_and_progress(run):
    seen = []
    rows = run(BenchmarkOptions("med-sr4", every=2), progress=lambda done, total: seen.append((done, total)))
    assert len({row.sha256 for row in rows}) == 2
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_degrading_in_the_papers_window_clips_truth_and_input(store, checkpoint):
    intensity = BenchmarkOptions("med-sr4", degrade_in="window").degraded_in(checkpoint.card.intensity)
    case = make_case(store, 0, 4, 0, intensity)
    assert (case.reference_hu.min(), case.reference_hu.max()) == (-160, 240)
    assert case.low_hu.min() >= -160
    assert case.low_hu.max() <= 240
    assert store.hu(0).min() < -160


def test_fidelity_can_be_left_out(run):
    assert "shift_px" in run(BenchmarkOptions("med-sr4", every=4, methods=("bicubic",)))[0].scores
    without = run(BenchmarkOptions("med-sr4", every=4, methods=("bicubic",), fidelity=False))
    assert "shift_px" not in without[0].scores
    assert "mae_hu" in without[0].scores


def test_every_model_is_run_at_each_consistency_that_is_asked_for(run):
    asked = ("off", "local", "soft", "hard")
    rows = run(BenchmarkOptions("med-sr4", every=2, methods=("bicubic", "qdm"), consistency=asked))
    ends = ("", ", consistency local", ", consistency soft", ", consistency hard")
    names = [f"tiny, 2 steps, s = 0.15{end}" for end in ends]
    assert list(dict.fromkeys(row.method for row in rows)) == ["bicubic", *names]
    apart = [np.mean([row.scores["area_mae_hu"] for row in rows if row.method == name]) for name in names]
    assert apart[3] < 1e-3 < apart[2] < apart[1] < apart[0]


def test_a_network_for_images_is_made_as_consistent_as_the_model(checkpoint, monkeypatch):
    drifted = Fixed(lambda low_hu, scale: np.kron(low_hu, np.ones((scale, scale), dtype=np.float32)) + 50)
    monkeypatch.setattr("qdm_med.evaluation.benchmarks.load_image_model", lambda *given, **how: drifted)
    asked = BenchmarkOptions("med-sr4", methods=(), image_models=(Path("any.pth"),), consistency=("off", "local"))
    alone, matched = benchmark_methods(checkpoint, asked, CPU)
    assert (alone, matched.name) == (drifted, "fixed, consistency local")
    assert benchmark_methods(checkpoint, replace(asked, consistency=()), CPU) == [drifted]
    low_hu = np.full((8, 8), 40, dtype=np.float32)
    np.testing.assert_allclose(matched.restore(low_hu, 4).hu, 40, atol=1e-3)


def test_an_unknown_consistency_is_refused():
    with pytest.raises(ConfigError, match="consistency 'firm' is unknown; known: off, local, spread, soft, hard"):
        BenchmarkOptions("med-sr4", consistency=("firm",))


class Fixed:
    """A method that returns what it is told."""

    name = "fixed"

    def __init__(self, answer):
        self.answer = answer

    def restore(self, low_hu, scale):
        return Restored(self.answer(low_hu, scale))


def score_with(store, checkpoint, answer):
    cases = (make_case(store, index, 4, 0, checkpoint.card.intensity) for index in range(2))
    return [row for rows in evaluate([Fixed(answer)], cases, intensity=checkpoint.card.intensity) for row in rows]


def test_an_oracle_is_perfect(store, checkpoint):
    truth = iter([store.hu(index).astype(np.float32) for index in range(2)])
    rows = score_with(store, checkpoint, lambda low_hu, scale: next(truth))
    assert {row.scores["mae_hu"] for row in rows} == {0.0}
    assert {row.scores["psnr_db"] for row in rows} == {float("inf")}


def test_a_method_that_did_more_than_restore_tells_its_own_time(store, checkpoint):
    case = make_case(store, 0, 4, 0, checkpoint.card.intensity)
    method = Fixed(lambda low_hu, scale: np.zeros((64, 64), dtype=np.float32))
    assert 0 < run_method(method, case)[1] < 5
    method.restore = lambda low_hu, scale: Restored(np.zeros((64, 64), dtype=np.float32), seconds=7.0)
    assert run_method(method, case)[1] == 7.0


def test_a_method_of_the_wrong_size_or_with_nan_is_named(store, checkpoint):
    with pytest.raises(DataError, match="method fixed made an image"):
        score_with(store, checkpoint, lambda low_hu, scale: low_hu)
    with pytest.raises(DataError, match="not numbers"):
        score_with(store, checkpoint, lambda low_hu, scale: np.full((64, 64), np.nan, dtype=np.float32))


def test_what_cannot_be_run_is_refused(run):
    with pytest.raises(ConfigError, match="med-sr2"):
        BenchmarkOptions("med-sr2")
    with pytest.raises(ConfigError, match="every"):
        BenchmarkOptions("med-sr4", every=0)
    with pytest.raises(ConfigError, match="'nearest' is unknown; known: bicubic"):
        BenchmarkOptions("med-sr4", methods=("nearest",))
    with pytest.raises(ConfigError, match="no method was named"):
        BenchmarkOptions("med-sr4", methods=())
    with pytest.raises(ConfigError, match="degrade_in must be network or window, got 'hu'"):
        BenchmarkOptions("med-sr4", degrade_in="hu")
    with pytest.raises(CheckpointError, match="not for x8"):
        run(BenchmarkOptions("med-sr8"))
