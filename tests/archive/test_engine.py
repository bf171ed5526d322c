"""Items through workers that are lost: each ends exactly once, and a poisonous one ends alone."""

from __future__ import annotations

import sys
import types

import dask
import pytest

from qdm_med.archive.cluster import Wanted, local_cluster, size, workforce
from qdm_med.archive.engine import RETRIES, Engine, Finished, GivenUp, Retried, Told
from qdm_med.errors import ClusterError, ConfigError
from tests.archive.chores import noted
from tests.archive.conftest import wait_for

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        from distributed import Client

        with local_cluster(Wanted(workers=2, threads=1, device="cpu")) as cluster, Client(cluster) as client:
            yield client


def test_every_item_ends_once_though_a_worker_is_lost(client, tmp_path):
    names = [*(f"item-{number}" for number in range(6)), "unlucky"]
    happened = list(Engine(client, noted).work_through([(tmp_path, name) for name in names]))
    ended = {one.item[1]: one.result for one in happened if isinstance(one, Finished)}
    assert ended == {name: name.upper() for name in names}, happened
    assert sum(isinstance(one, Finished) for one in happened) == len(names)
    assert {one.item[1] for one in happened if isinstance(one, Retried)} == {"unlucky"}
    assert len((tmp_path / "unlucky").read_text().splitlines()) == 2
    told = [one.event for one in happened if isinstance(one, Told)]
    assert {event["id"] for event in told} >= set(names[:6])
    assert all(event["worker"].startswith("tcp://127.0.0.1:") for event in told)


def test_an_item_that_no_worker_survives_ends_alone(client, tmp_path):
    happened = list(Engine(client, noted).work_through([(tmp_path, "item"), (tmp_path, "poison")]))
    (given_up,) = (one for one in happened if isinstance(one, GivenUp))
    assert given_up.item[1] == "poison"
    assert "every worker that had it was lost" in given_up.reason
    assert len((tmp_path / "poison").read_text().splitlines()) == RETRIES + 1
    assert [one.result for one in happened if isinstance(one, Finished)] == ["ITEM"]


def test_what_is_left_undone_is_cancelled(client, tmp_path):
    happenings = Engine(client, noted).work_through([(tmp_path, f"item-{number}") for number in range(50)])
    assert any(isinstance(one, Finished) for one in happenings)
    happenings.close()
    wait_for(lambda: not any(client.processing().values()), seconds=10)
    assert len(list(tmp_path.iterdir())) < 50


def test_a_worker_that_lacks_the_function_ends_the_item_with_the_reason(client):
    module = types.ModuleType("only_here")
    exec("def work(item, tell):\n    return item", module.__dict__)
    module.work.__module__ = "only_here"
    sys.modules["only_here"] = module
    try:
        happened = list(Engine(client, module.work).work_through(["a"]))
    finally:
        del sys.modules["only_here"]
    (ended,) = (one for one in happened if isinstance(one, GivenUp))
    assert "ModuleNotFoundError" in ended.reason


@pytest.mark.parametrize(
    ("wanted", "gpus", "expected"),
    [
        (Wanted(memory_bytes=2**30, items=100), 0, ("cores", 1)),
        (Wanted(memory_bytes=2**30, items=1), 0, (1, "cores")),
        (Wanted(memory_bytes=2**34, items=100), 0, (1, "cores")),
        (Wanted(memory_bytes=2**30, items=100), 1, (1, "cores")),
        (Wanted(memory_bytes=2**30, items=100, workers=3, threads=2), 0, (3, 2)),
    ],
)
def test_workers_and_threads_come_from_cores_memory_and_items(monkeypatch, wanted, gpus, expected):
    monkeypatch.setattr("qdm_med.archive.cluster.cores", lambda: 8)
    assert size(wanted, gpus, 2**35 if gpus else 2**34) == tuple(8 if one == "cores" else one for one in expected)


def test_workers_and_threads_never_ask_for_more_than_there_is(monkeypatch):
    monkeypatch.setattr("qdm_med.archive.cluster.cores", lambda: 8)
    for gib in range(1, 40):
        workers, threads = size(Wanted(memory_bytes=3 * 2**30, items=100), 0, gib * 2**30)
        assert workers * threads <= 8
        assert workers == 1 or workers * 3 <= gib


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        (Wanted("tcp://127.0.0.1:9"), ClusterError, "tcp://127.0.0.1:9: no scheduler answers"),
        (Wanted("moon"), ConfigError, "cluster 'moon' is unknown; use local, slurm or tcp://HOST:PORT"),
    ],
)
def test_a_cluster_that_is_not_there_is_one_line(wanted, error, said, monkeypatch):
    monkeypatch.setattr("qdm_med.archive.cluster.CONNECT_SECONDS", 1)
    with pytest.raises(error, match=said), workforce(wanted):
        pass
