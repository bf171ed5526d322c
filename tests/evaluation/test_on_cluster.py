"""``eval --cluster``: the rows of one process, whoever scores and in whatever order."""

from __future__ import annotations

import json
import pickle
import re
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.archive.cluster import Wanted
from qdm_med.archive.ordered import Stop
from qdm_med.checkpoints.model import load_checkpoint, save_checkpoint
from qdm_med.errors import ClusterError, ConfigError
from qdm_med.evaluation import on_cluster
from qdm_med.evaluation.benchmarks import BenchmarkOptions, Scoring, benchmark_cases
from qdm_med.evaluation.exchange import case_name
from qdm_med.evaluation.on_cluster import ClusterScoring, _Score
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.evaluation.selection import store_sha256

CPU = torch.device("cpu")
OPTIONS = BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"))
FILES = ("summary.json", "benchmark.json", "receipt.json")


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, checkpoint.card, checkpoint.autoencoder, checkpoint.require_denoiser())
    return path


@pytest.fixture
def evaluate(store, model):
    def evaluate(out, options=OPTIONS, **wishes):
        wishes.setdefault("data", store.path)
        return evaluate_checkpoint(
            wishes.pop("data"), load_checkpoint(model), options, device=CPU, outputs=Outputs(out), **wishes
        )

    return evaluate


@pytest.fixture
def workers_here(monkeypatch, model, tmp_path):
    """A cluster that works in this process and in another folder, through what is sent to workers."""

    class Force:
        client = None

        def needs(self, memory_bytes):
            return {}

    class Here:
        def __init__(self, wanted):
            pass

        def __enter__(self):
            return Force()

        def __exit__(self, *error):
            pass

    def in_order(client, function, items, needs):
        function = pickle.dumps(function)
        for item in items:
            with chdir(tmp_path):
                result = pickle.loads(function)(item, print)
            if isinstance(result, Stop):
                raise result.error
            yield result

    monkeypatch.setattr(on_cluster, "workforce", Here)
    monkeypatch.setattr(on_cluster, "in_order", in_order)
    on_cluster._warm.cache_clear()
    return Scoring(elsewhere=ClusterScoring(Wanted(device="cpu"), model))


def without_seconds(folder):
    rows = [json.loads(line) for line in (folder / "cases.jsonl").read_text().splitlines()]
    return [repr({key: value for key, value in row.items() if key != "seconds"}) for row in rows]


def assert_same(folder, alone):
    assert without_seconds(folder) == without_seconds(alone)
    for name in FILES:
        assert (folder / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.slow
def test_a_cluster_finds_the_figures_of_one_process(evaluate, model, tmp_path):
    evaluate(tmp_path / "alone")
    scoring = Scoring(elsewhere=ClusterScoring(Wanted(workers=2, threads=1, device="cpu"), model))
    evaluate(tmp_path / "cluster", scoring=scoring)
    assert_same(tmp_path / "cluster", tmp_path / "alone")


def test_workers_know_every_method_and_the_results_of_other_programs(
    evaluate, workers_here, store, checkpoint, tmp_path, monkeypatch
):
    folder = tmp_path / "here" / "program"
    folder.mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    options = replace(OPTIONS, samples=2, count_macs=True, every=2, results=(("program", Path("program")),))
    for case in benchmark_cases(store, store.indices("val"), options, checkpoint.card.intensity):
        Image.fromarray(np.full((64, 64), case.index, dtype=np.uint8)).save(folder / f"{case_name(case)}.png")
    evaluate(tmp_path / "alone", options)
    evaluate(tmp_path / "cluster", options, scoring=workers_here)
    assert_same(tmp_path / "cluster", tmp_path / "alone")
    assert len(without_seconds(tmp_path / "cluster")) == 2 * 4


def test_a_killed_run_is_resumed_elsewhere(evaluate, workers_here, tmp_path):
    evaluate(tmp_path / "alone")

    def kill(done, total):
        if done == 2:
            raise KeyboardInterrupt

    for first, second in ((Scoring(), workers_here), (workers_here, Scoring())):
        out = tmp_path / str(first.elsewhere is None)
        with pytest.raises(KeyboardInterrupt):
            evaluate(out, scoring=first, progress=kill)
        evaluate(out, scoring=second)
        assert_same(out, tmp_path / "alone")


def test_workers_that_see_another_model_or_store_or_none_stop_the_run(store, checkpoint, model, tmp_path):
    job = on_cluster._Job(store.path, store_sha256(store), model, load_checkpoint(model).sha256, OPTIONS, None, "cpu")
    (index, *_) = store.indices("val")
    assert len(_Score(job)(index, print)) == 2
    for change, said in (
        ({"store": tmp_path}, "a worker cannot read what is to be scored: .* holds no slice store"),
        ({"model_sha256": "1"}, "a worker finds another one there; give all workers the same"),
        ({"store_sha256": "1"}, "a worker finds another one there; give all workers the same"),
    ):
        stopped = _Score(replace(job, **change))(index, print)
        assert isinstance(stopped, Stop)
        assert isinstance(stopped.error, ClusterError)
        assert re.search(said, str(stopped.error))


def test_what_ends_a_run_alone_ends_it_on_a_worker(store, checkpoint, model):
    beyond = replace(OPTIONS, steps=(999,))
    job = on_cluster._Job(store.path, store_sha256(store), model, load_checkpoint(model).sha256, beyond, None, "cpu")
    assert isinstance(_Score(job)(store.indices("val")[0], print).error, ConfigError)
