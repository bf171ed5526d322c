"""Measure an archive on loopback: series are finished exactly once though workers and clients are killed; cost of scheduling.

Usage: python benchmarks/archive_cluster.py [--series 200] [--kills 10] [--moments 20] [--clients 20] [--items 500]
           [--queued 100000] [--skip kills,moments,clients,speed,cost,memory] [--out archive_cluster.json]

kills    A run over tiny series with three workers, of which one is killed with SIGKILL every two seconds, so many times:
         finished series, series finished twice, partial files, processes that outlive the client.
moments  A process that makes a small archive is killed at a random moment, so many times; after each the archive is
         finished and its pixels are compared with those of an archive that nobody killed.
clients  The same with whole runs: the client of one worker is killed at a random moment after the first series' start, its processes must end by
         themselves, and the same command is started again.
speed    Wall time of one worker of one thread and of two, from the first series' start to the last one's end.
cost     Wall time an item of items that do nothing, on one worker: submitting, running, telling, submitting the next.
memory   Memory of a scheduler process with so many series queued in it, and of one to which the engine hands the same
         number bit by bit, after the first thousand of them.

Linux only: processes are found in /proc.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from distributed import Client
from timing import arguments, tell

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from qdm_med.archive.cluster import Wanted, local_cluster, workforce
from qdm_med.archive.engine import Engine, Finished
from qdm_med.archive.events import read_events
from qdm_med.archive.folder import NAME, ArchiveFolder
from qdm_med.archive.making import Maker
from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.receipt import SUFFIX
from qdm_med.archive.request import Request
from qdm_med.archive.run import plan_only, run_archive
from qdm_med.archive.work import Job
from qdm_med.checkpoints.model import ModelCard, default_checkpoint, save_checkpoint
from qdm_med.inference.options import UpscaleOptions
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.archive.conftest import members, wait_for
from tests.archive.trees import hidden, stored, write_tree
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

OPTIONS = UpscaleOptions(steps=1)


def nothing(item: object, tell_of: Callable[[Any], None]) -> None:
    """Do nothing."""


def tiny_model(folder: Path) -> Path:
    """A random model that takes milliseconds a slice."""
    torch.manual_seed(0)
    networks = KlVae(TINY_AUTOENCODER), TwoStreamDenoiser(TINY_DENOISER)
    with torch.no_grad():
        networks[1].read_out.weight.normal_(std=0.1)
    path = folder / "tiny.safetensors"
    save_checkpoint(path, ModelCard("tiny", TINY_AUTOENCODER, TINY_DENOISER), *networks)
    return path


def make_all(request: Request) -> None:
    """Make an archive in this process, one series after the other, as workers do."""
    manifest = ArchiveFolder(request.out).planned()
    maker = Maker(request.tree, ArchiveFolder(request.out), request.settings, request.upscalers())
    for series in manifest.accepted:
        maker.make(series, lambda done, total, ct_slice: None)


def events(out: Path, kind: str) -> list[dict[str, Any]]:
    """Events of one kind."""
    return [event for event in read_events(out / NAME / "events.jsonl") if event["event"] == kind]


def start_run(tree: Path, out: Path, model: Path, workers: int) -> subprocess.Popen[bytes]:
    """Start a run in a session of its own."""
    command = ["archive", "run", tree, "--out", out, "--workers", workers, "--threads", 1, "--device", "cpu"]
    return subprocess.Popen(
        [sys.executable, "-m", "qdm_med.cli.app", "-q", *map(str, command), "--steps", "1", "--checkpoint", str(model)],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )


def killed_workers(folder: Path, count: int, kills: int) -> dict[str, Any]:
    """Kill random workers of a run that has three."""
    tree, out, model = write_tree(folder / "tree", count), folder / "out", tiny_model(folder)
    started = time.perf_counter()
    client = start_run(tree, out, model, workers=3)
    draw, killed = random.Random(0), 0
    wait_for(lambda: events(out, "done") or client.poll() is not None, 600)
    while client.poll() is None:
        time.sleep(2)
        workers = [pid for pid in members(client.pid) if _is_worker(pid)]
        if workers and killed < kills:
            os.kill(draw.choice(workers), signal.SIGKILL)
            killed += 1
    wall = time.perf_counter() - started
    done = Counter(event["id"] for event in events(out, "done") if event["made"])
    time.sleep(1)
    return {
        "series": count,
        "workers killed": killed,
        "finished": len(list(out.rglob(f"*{SUFFIX}"))),
        "slices": len(stored(out)),
        "made twice": sum(number > 1 for number in done.values()),
        "failed": len(events(out, "failed")),
        "partial or hidden files left": len(hidden(out)),
        "processes left": len(members(client.pid)),
        "seconds": wall,
    }


def _is_worker(pid: int) -> bool:
    try:
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def killed_moments(folder: Path, moments: int) -> dict[str, Any]:
    """Kill a process that makes an archive at random moments, and finish the archive each time."""
    tree, model = write_tree(folder / "tree", 4), tiny_model(folder)
    torch.set_num_threads(1)

    def request(name: str) -> Request:
        made = Request.of(tree, folder / name, model, OPTIONS, "cpu")
        plan_only(made)
        return made

    whole = request("whole")
    started = time.perf_counter()
    make_all(whole)
    lasted, expected = time.perf_counter() - started, stored(whole.out)
    draw, same, interrupted = random.Random(1), 0, 0
    for number in range(moments):
        one = request(f"killed-{number}")
        child = os.fork()
        if child == 0:
            make_all(one)
            os._exit(0)
        time.sleep(draw.uniform(0, lasted))
        if os.waitpid(child, os.WNOHANG) == (0, 0):
            interrupted += 1
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        make_all(one)
        if stored(one.out) == expected and not hidden(one.out):
            same += 1
        else:
            left = hidden(one.out) or sorted(stored(one.out).items() ^ expected.items())
            sys.stderr.write(f"moment {number}: {left}\n")
    return {"moments": moments, "before the end": interrupted, "the same bytes": same, "seconds unkilled": lasted}


def killed_clients(folder: Path, clients: int) -> dict[str, Any]:
    """Kill the client of a run at random moments, and start the same command again each time."""
    count, whole = 30, folder / "whole"
    tree, model = write_tree(folder / "tree", count, slices=4), tiny_model(folder)
    start_run(tree, whole, model, workers=1).wait()
    expected = stored(whole)
    lasted = events(whole, "done")[-1]["time"] - events(whole, "started")[0]["time"]
    draw, found = random.Random(2), Counter[str]()
    for number in range(clients):
        out = folder / f"killed-{number}"
        client = start_run(tree, out, model, workers=1)
        wait_for(lambda out=out: events(out, "started"), 600)
        time.sleep(draw.uniform(0, lasted))
        found["before the end"] += client.poll() is None
        client.kill()
        wait_for(lambda group=client.pid: not members(group), 60)
        client.wait()
        done = len(list(out.rglob(f"*{SUFFIX}")))
        found["amid the series"] += 0 < done < count
        found["exit code 0"] += start_run(tree, out, model, workers=1).wait() == 0
        found["the same bytes"] += stored(out) == expected and not hidden(out)
        sys.stderr.write(f"client {number}: killed with {done} of {count} series done; {dict(found)}\n")
    return {"clients": clients, **found, "seconds unkilled": lasted}


def speed(folder: Path) -> dict[str, Any]:
    """One worker of one thread against two."""
    tree = write_tree(folder / "tree", 12, slices=4, rows=64, columns=64)
    taken = {}
    for workers in (1, 2):
        out = folder / f"out{workers}"
        request = Request.of(tree, out, default_checkpoint(), UpscaleOptions(), "cpu")
        run_archive(request, Wanted(workers=workers, threads=1))
        taken[workers] = events(out, "done")[-1]["time"] - events(out, "started")[0]["time"]
    return {"1 worker": taken[1], "2 workers": taken[2], "times as fast": taken[1] / taken[2]}


def cost(items: int) -> dict[str, Any]:
    """Cost of an item that does nothing."""
    found = {}
    for workers in (1, 2):
        with workforce(Wanted(workers=workers, threads=1, device="cpu")) as force:
            engine: Engine[int] = Engine(force.client, nothing)
            list(engine.work_through(range(20)))
            started = time.perf_counter()
            done = sum(isinstance(one, Finished) for one in engine.work_through(range(items)))
            found[f"ms an item, {workers} workers"] = (time.perf_counter() - started) / done * 1000
    return found


def scheduler_memory(folder: Path, queued: int) -> dict[str, Any]:
    """MiB of a scheduler with everything queued in it, and of one that the engine feeds."""
    series = [
        PlannedSeries(f"{number:016x}", f"patients/{number:06d}/study/series", series_uid=f"1.2.3.{number}", slices=300)
        for number in range(queued)
    ]
    request = Request.of(folder, folder / "out", default_checkpoint(), UpscaleOptions(), "cpu")
    job = Job(request.tree, request.out, request.settings, request.checkpoint, "cpu")
    found: dict[str, Any] = {}
    with _Scheduler(folder) as (pid, client):
        found["MiB at the start"] = before = _mib(pid)
        futures = client.map(lambda one, job=job: one, series, pure=False, batch_size=5000)
        time.sleep(5)
        found[f"MiB with {queued} queued"] = after = _mib(pid)
        found["KiB a queued series"] = (after - before) * 1024 / queued
        client.cancel(futures)
    with local_cluster(Wanted(workers=1, threads=1, device="cpu")) as cluster, Client(cluster) as client:
        steps = []
        finished = 0
        for one in Engine(client, nothing).work_through(series):
            finished += isinstance(one, Finished)
            if finished in (100, 1000) and isinstance(one, Finished):
                steps.append(_mib(os.getpid()))
            if finished >= 1000:
                break
        found["MiB of client and scheduler that the engine feeds, after 100"], found["after 1000"] = steps
    return found


class _Scheduler:
    """A scheduler process without workers."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "scheduler.json"

    def __enter__(self) -> tuple[int, Client]:
        command = ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard"]
        self._process = subprocess.Popen(
            [sys.executable, *command, "--scheduler-file", str(self._file)], stderr=subprocess.DEVNULL
        )
        wait_for(self._file.exists)
        self._client = Client(json.loads(self._file.read_text())["address"])
        return self._process.pid, self._client

    def __exit__(self, *error: object) -> None:
        self._client.close()
        self._process.kill()
        self._process.wait()


def _mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def main() -> None:
    """Measure everything that is not skipped."""
    options = arguments(
        __doc__,
        **{"series": 200, "kills": 10, "moments": 20, "clients": 20, "items": 500, "queued": 100000, "skip": "-"},
    )
    parts: dict[str, Callable[[Path], dict[str, Any]]] = {
        "kills": lambda folder: killed_workers(folder, options.series, options.kills),
        "moments": lambda folder: killed_moments(folder, options.moments),
        "clients": lambda folder: killed_clients(folder, options.clients),
        "speed": speed,
        "cost": lambda folder: cost(options.items),
        "memory": lambda folder: scheduler_memory(folder, options.queued),
    }
    found = {}
    for name, measure in parts.items():
        if name not in options.skip.split(","):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = measure(Path(folder))
            sys.stderr.write(f"{name}: {json.dumps(found[name])}\n")
    tell(found, options.out)


if __name__ == "__main__":
    main()
