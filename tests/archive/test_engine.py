"""Items through workers that are lost: each ends exactly once, and a poisonous one ends alone."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import types

import dask
import pytest

from qdm_med.archive.allocator import DASKS
from qdm_med.archive.cluster import Wanted, local_cluster, size, workforce
from qdm_med.archive.engine import RETRIES, Engine, Finished, GivenUp, Retried, Told
from qdm_med.errors import ClusterError, ConfigError
from tests.archive.chores import noted, page_faults
from tests.archive.conftest import ROOT, members, wait_for

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


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="what is freed is given back by glibc")
def test_a_worker_keeps_what_a_tensor_leaves_for_the_next_one(client):
    asked = "from tests.archive.chores import page_faults as count; print(count(50, None)); "
    asked += "from qdm_med.archive.allocator import keep_freed_memory as keep; print(keep()); print(count(50, None))"
    environment = {**os.environ, "MALLOC_TRIM_THRESHOLD_": DASKS}
    told = subprocess.run([sys.executable, "-c", asked], env=environment, cwd=ROOT, capture_output=True, text=True)
    before, kept, after = told.stdout.split()
    assert kept == "True"
    assert int(before) > 50 * 500  # of 512 pages each
    assert int(after) < 5 * 512
    (ended,) = (one for one in Engine(client, page_faults).work_through([50]) if isinstance(one, Finished))
    assert ended.result < 5 * 512
    assert set(client.run(os.environ.get, "MALLOC_TRIM_THRESHOLD_").values()) == {DASKS}  # that of Dask, not of a user


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


SBATCH = """#!/bin/sh
# A batch system of one line: run the script that is given last, in a session of its own.
for script; do :; done
cp "$script" "{jobs}.$$"  # which is removed when this ends
PATH="{path}" setsid sh "{jobs}.$$" >"{jobs}.log" 2>&1 &
echo $! > "{jobs}/$!"
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/sh
for job; do pkill -KILL -s "$job"; done
"""


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Commands of Slurm that run jobs here; gives the jobs that were begun."""
    pytest.importorskip("dask_jobqueue")
    tools, jobs = tmp_path / "bin", tmp_path / "jobs"
    for folder in (tools, jobs):
        folder.mkdir()
    for name, script in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (tools / name).write_text(script.format(path=os.environ["PATH"], jobs=jobs))
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return jobs


ON_LOOPBACK = {"scheduler_options": {"host": "127.0.0.1", "dashboard": False}, "interface": "lo"}


def test_workers_come_as_jobs_of_slurm_and_go_with_the_run(slurm, tmp_path):
    wanted = Wanted("slurm", workers=1, device="cpu", memory_bytes=2**29, slurm=ON_LOOPBACK)
    (tmp_path / "notes").mkdir()
    with workforce(wanted) as force:
        assert (force.device, force.memory_bytes) == ("cpu", 2**30)
        assert force.needs(2**29) == {"MEMORY": 2.0**29}
        engine = Engine(force.client, noted, lambda item: force.needs(2**29))
        happened = list(engine.work_through([(tmp_path / "notes", "item")]))
    assert [one.result for one in happened if isinstance(one, Finished)] == ["ITEM"]
    sessions = {int(path.name) for path in slurm.iterdir()}
    wait_for(lambda: not any(members(session) for session in sessions), seconds=20)


def test_what_slurm_refuses_is_one_line(slurm, monkeypatch):
    (slurm.parent / "bin" / "sbatch").write_text("#!/bin/sh\necho invalid partition specified: moon >&2\nexit 1\n")
    with (
        pytest.raises(ClusterError, match=r"slurm: a job was refused \(invalid partition specified: moon\); mend"),
        workforce(Wanted("slurm", slurm={**ON_LOOPBACK, "queue": "moon"})),
    ):
        pass
    with pytest.raises(ConfigError, match="--slurm"), workforce(Wanted("slurm", slurm={**ON_LOOPBACK, "moon": 1})):
        pass
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match="there is no sbatch on this machine"), workforce(Wanted("slurm")):
        pass
