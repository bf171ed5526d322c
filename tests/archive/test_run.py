"""Whole runs on loopback, with processes that are killed: exactly one finished output a series, and the same bytes."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pydicom
import pytest

from qdm_med.archive import work
from qdm_med.archive.cluster import Wanted
from qdm_med.archive.events import read_events
from qdm_med.archive.folder import NAME, ArchiveFolder
from qdm_med.archive.making import Maker
from qdm_med.archive.receipt import SUFFIX, read_receipt
from qdm_med.archive.run import plan_only, run_archive
from qdm_med.archive.status import read_status
from qdm_med.errors import ClusterError, ConfigError, SeriesError
from tests.archive.conftest import members, wait_for
from tests.archive.trees import hidden, stored, write_tree

COUNT = 12
ONE_WORKER = Wanted(workers=1, threads=1)


@pytest.fixture(scope="module")
def big_tree(tmp_path_factory):
    return write_tree(tmp_path_factory.mktemp("big") / "tree", COUNT)


@pytest.fixture(scope="module")
def never_killed(big_tree, tmp_path_factory, checkpoint, upscalers):
    """Pixels of the same archive, made one series after the other in one process."""
    from qdm_med.archive.request import Request
    from tests.archive.conftest import OPTIONS

    out = tmp_path_factory.mktemp("whole") / "out"
    request = Request.of(big_tree, out, checkpoint, OPTIONS, "cpu")
    maker = Maker(request.tree, ArchiveFolder(out), request.settings, upscalers)
    for one in plan_only(request).accepted:
        maker.make(one, lambda done, total, ct_slice: None)
    return stored(out)


def workers_of(process):
    """Worker processes of a client, which multiprocessing has started."""
    return [
        pid
        for pid in members(process.pid)
        if pid != process.pid and b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def ended(out):
    return [event for event in read_events(out / NAME / "events.jsonl") if event["event"] in ("done", "failed")]


def assert_whole(out, pixels):
    """Every series is there once, with its receipt, with the pixels of a run that nobody killed, and nothing else."""
    assert stored(out) == pixels
    folders = [path for path in out.rglob("*-srx4") if path.is_dir()]
    assert len(folders) == COUNT
    assert len(list(out.rglob(f"*{SUFFIX}"))) == COUNT
    for folder in folders:
        assert len({pydicom.dcmread(path).SeriesInstanceUID for path in folder.iterdir()}) == 1
        receipt = read_receipt(folder)
        found = {
            path.name: digest for path, digest in zip(sorted(folder.iterdir()), stored(folder).values(), strict=True)
        }
        assert receipt.record["pixels_sha256"][folder.name] == found
    assert hidden(out) == []
    assert {path.name for path in (out / NAME).iterdir()} == {
        "settings.json",
        "manifest.jsonl",
        "events.jsonl",
        "status.json",
    }


@pytest.mark.slow
def test_killed_workers_and_a_killed_client_change_no_byte(
    start, big_tree, never_killed, request_for, checkpoint, tmp_path
):
    out = tmp_path / "out"
    draw = random.Random(0)
    arguments = ("archive", "run", big_tree, "--out", out, "--workers", 3, "--threads", 1, "--device", "cpu")
    client = start("-m", "qdm_med.cli.app", *arguments, "--steps", 1, "--checkpoint", checkpoint)
    wait_for(lambda: ended(out), seconds=300)  # workers start, on a busy machine too
    for _ in range(2):
        os.kill(draw.choice(wait_for(lambda: workers_of(client))), signal.SIGKILL)
    assert read_status(ArchiveFolder(out)).state == "running"
    with pytest.raises(SeriesError, match=r"another run \(process"):
        run_archive(request_for(big_tree, out), ONE_WORKER)
    before = len(ended(out))
    wait_for(lambda: len(ended(out)) > before or client.poll() is not None)
    os.kill(client.pid, signal.SIGKILL)
    wait_for(lambda: not members(client.pid))  # nobody outlives the client
    client.wait()
    assert read_status(ArchiveFolder(out)).state in ("stopped", "ended")
    summary = run_archive(request_for(big_tree, out), ONE_WORKER)
    assert summary.failed == {}
    assert summary.made + summary.already == COUNT
    assert_whole(out, never_killed)
    assert max(Counter(event["id"] for event in ended(out) if event["made"]).values()) == 1
    assert read_status(ArchiveFolder(out)).state == "ended"
    again = run_archive(request_for(big_tree, out), ONE_WORKER)
    assert (again.made, again.already) == (0, COUNT)
    with pytest.raises(ConfigError, match=r"was begun with other settings .*strict was False, is True"):
        run_archive(request_for(big_tree, out, strict=True), ONE_WORKER)
    assert_whole(out, never_killed)


@pytest.mark.slow
def test_a_lost_scheduler_is_one_line_and_the_next_run_ends_with_the_same_bytes(
    start, big_tree, never_killed, request_for, tmp_path, monkeypatch
):
    out, address = tmp_path / "out", tmp_path / "scheduler.json"
    common = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", address)
    scheduler = start("-m", "distributed.cli.dask_scheduler", "--port", 0, *common)
    wait_for(address.exists)
    resources = ("--resources", "MEMORY=4e9", "--nthreads", 1, "--death-timeout", 10)
    start("-m", "distributed.cli.dask_worker", *common, *resources)
    wanted = Wanted(json.loads(address.read_text())["address"])
    with monkeypatch.context() as patch:
        patch.setattr("qdm_med.archive.cluster.versions", lambda: {"qdm_med": "0.0", "torch": "1"})
        with pytest.raises(ClusterError, match=r"has versions .*install the same everywhere"):
            run_archive(request_for(big_tree, out), wanted)
    killing = threading.Thread(target=lambda: (wait_for(lambda: ended(out)), scheduler.kill()))
    killing.start()
    with pytest.raises(ClusterError, match="the scheduler was lost; what is finished is kept"):
        run_archive(request_for(big_tree, out), wanted)
    killing.join()
    assert 0 < len(ended(out)) < COUNT
    summary = run_archive(request_for(big_tree, out), ONE_WORKER)
    assert summary.made + summary.already == COUNT
    assert_whole(out, never_killed)


@pytest.fixture
def job(request_for, tree, tmp_path):
    request = request_for(tree, tmp_path / "out")
    series = plan_only(request).accepted
    return work.Job(request.tree, request.out, request.settings, request.checkpoint, "cpu"), series


def test_what_goes_wrong_with_a_series_is_its_outcome(job, monkeypatch, tree):
    common, series = job
    told = []
    assert work.super_resolve(common, series[0], told.append).state == "done"
    assert told[0] == {"event": "started", "id": series[0].id, "slices": 2}
    assert {one["event"] for one in told[1:]} <= {"slices"}  # told by time: a fast machine is done before the first
    (tree / series[1].source / "001.dcm").unlink()
    (tree / series[1].source / "000.dcm").write_bytes(b"")
    failed = work.super_resolve(common, series[1])
    assert failed.state == "failed"
    assert "no CT series" in failed.reason
    monkeypatch.setattr("qdm_med.archive.making.hashed_inputs", lambda *arguments: {}["patient"])
    failed = work.super_resolve(common, series[2])
    assert failed.state == "failed"
    assert failed.reason.startswith("unexpected KeyError at test_run.py:")
    assert "patient" not in failed.reason


def test_what_all_series_share_stops_the_run(job, monkeypatch, tmp_path):
    common, series = job
    with monkeypatch.context() as patch:
        usage = os.statvfs(tmp_path)
        patch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=10, total=usage.f_blocks))
        full = work.super_resolve(common, series[0])
    assert (full.state, "are free" in full.reason) == ("stop", True)
    other = work.Job(common.tree, common.out, common.settings, tmp_path / "none.safetensors", "cpu")
    work._warm.cache_clear()
    missing = work.super_resolve(other, series[0])
    assert (missing.state, "a worker cannot load the model" in missing.reason) == ("stop", True)
    monkeypatch.setattr("qdm_med.archive.work.versions", lambda: {"qdm_med": "0.0"})
    assert work.super_resolve(common, series[0]).state == "stop"
    monkeypatch.undo()
    work._warm.cache_clear()
    assert work.super_resolve(common, series[0]).state == "done"
