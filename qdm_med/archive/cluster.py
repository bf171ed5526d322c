"""A cluster to work on: this machine's cores and GPUs, a scheduler that runs somewhere, or jobs of Slurm."""

from __future__ import annotations

import inspect
import logging
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import dask
import torch

from qdm_med.archive import hushed
from qdm_med.archive.settings import versions
from qdm_med.archive.work import describe_worker
from qdm_med.errors import ClusterError, ConfigError

try:
    from distributed import Client, Nanny, Scheduler, SpecCluster
    from distributed.core import Status
    from distributed.system import MEMORY_LIMIT
except ImportError:
    raise ConfigError("clusters need Dask, the extra cluster: pip install 'qdm-med[cluster]'") from None

LOOPBACK = "127.0.0.1"
MEMORY_SHARE = 0.9
"""Share of the machine's memory that workers may take together."""
CONNECT_SECONDS = 10
START_SECONDS = 120
"""Seconds that workers of this machine may take to start."""
QUEUE_SECONDS = 24 * 3600
"""Seconds that workers of a batch queue or of a scheduler may take to come."""

_CONFIG = {
    "distributed.worker.memory.target": False,  # arrays live within a task: nothing of ours can be spilled
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.admin.event-loop-monitor-interval": "1s",
    "distributed.comm.retry.count": 3,
}


@dataclass(frozen=True)
class Wanted:
    """Cluster that a run asks for.

    Attributes:
        cluster: ``"local"``, ``"slurm"`` or the address of a scheduler, such as ``"tcp://192.0.2.1:8786"``.
        workers: Workers to start; ``None``: what cores, GPUs and memory allow, on Slurm one.
        threads: Threads of a worker; ``None``: the cores divided among the workers.
        memory_bytes: Memory of the largest item.
        items: Number of items: more workers are of no use.
        device: Device of the workers, as for ``--device``.
        dashboard: Port of Dask's dashboard on this machine alone; ``None``: none.
        slurm: Options of :class:`dask_jobqueue.SLURMCluster`, such as ``queue`` and ``walltime``.
    """

    cluster: str = "local"
    workers: int | None = None
    threads: int | None = None
    memory_bytes: int = 2**30
    items: int = 1
    device: str = "auto"
    dashboard: int | None = None
    slurm: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Workforce:
    """Cluster whose workers have been inspected.

    Attributes:
        client: Its client.
        device: Kind of device of all workers.
        resources: Names of Dask resources that all workers declare.
        memory_bytes: The largest ``MEMORY`` of a worker; ``None`` if they declare none.
    """

    client: Client
    device: str
    resources: frozenset[str]
    memory_bytes: float | None

    def needs(self, memory_bytes: int) -> dict[str, float]:
        """Dask resources that an item of so many bytes asks for, of those that are declared."""
        asked = {"MEMORY": float(memory_bytes), "GPU": 1.0 if self.device == "cuda" else 0.0}
        return {name: value for name, value in asked.items() if value and name in self.resources}


@contextmanager
def workforce(wanted: Wanted) -> Iterator[Workforce]:
    """Start or find a cluster, inspect its workers, and stop at the end what was started.

    Raises:
        ClusterError: If it cannot be reached or started, or a worker has other versions or another kind of device.
        ConfigError: If an option is unknown or an extra is missing.
    """
    # Nobody looks at the stacks that workers take of themselves, a hundred a second, without a dashboard.
    profile = {"distributed.worker.profile.enabled": wanted.dashboard is not None}
    with dask.config.set({**_CONFIG, **profile}), _silenced(), _cluster(wanted) as target:
        patience = START_SECONDS if wanted.cluster == "local" else QUEUE_SECONDS
        with _client(target, wanted.cluster) as client:
            client.wait_for_workers(1, timeout=patience)
            yield _inspected(client, wanted)


def _inspected(client: Client, wanted: Wanted) -> Workforce:
    """Ask every worker for its description.

    Raises:
        ClusterError: If they differ from each other or from this process.
    """
    try:
        found = client.run(_describe, wanted.device)
    except Exception as error:  # whatever is missing or different there
        raise ClusterError(
            f"{wanted.cluster}: a worker cannot run this tool ({type(error).__name__}: {error}); "
            f"install qdm-med {versions()['qdm_med']} there"
        ) from None
    for address, worker in found.items():
        if worker["versions"] != versions():
            raise ClusterError(
                f"{wanted.cluster}: worker {address} has versions {worker['versions']}, here are {versions()}; "
                "install the same everywhere"
            )
    kinds = sorted({worker["device"] for worker in found.values()})
    if len(kinds) > 1:
        raise ClusterError(f"{wanted.cluster}: workers have {' and '.join(kinds)}; choose one with --device")
    resources = [worker["resources"] for worker in found.values()]
    return Workforce(
        client,
        kinds[0],
        frozenset.intersection(*(frozenset(one) for one in resources)),
        max((one["MEMORY"] for one in resources if "MEMORY" in one), default=None),
    )


def _describe(device: str, dask_worker: Any = None) -> dict[str, Any]:
    return {**describe_worker(device), "resources": dict(dask_worker.state.total_resources)}


@contextmanager
def _client(target: Any, name: str) -> Iterator[Client]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of differing versions, which are looked at below
            client = Client(target, timeout=CONNECT_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(
            f"{name}: no scheduler answers ({type(error).__name__}); start `dask scheduler` and `dask worker`, "
            "or use --cluster local"
        ) from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_SECONDS)


@contextmanager
def _cluster(wanted: Wanted) -> Iterator[Any]:
    """Address or cluster object for a Dask client."""
    if "://" in wanted.cluster:
        yield wanted.cluster
    elif wanted.cluster == "local":
        with local_cluster(wanted) as cluster:
            yield cluster
    elif wanted.cluster == "slurm":
        with slurm_cluster(wanted) as cluster:
            yield cluster
    else:
        raise ConfigError(f"cluster {wanted.cluster!r} is unknown; use local, slurm or tcp://HOST:PORT")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def size(wanted: Wanted, gpus: int, memory: int) -> tuple[int, int]:
    """Number of workers and their threads on this machine.

    One worker a GPU; without GPUs one a core as far as the memory goes, because series are independent and threads of
    one series are not.

    >>> size(Wanted(memory_bytes=2 * 2**30, items=100, workers=None, threads=2), gpus=4, memory=7 * 2**30)
    (3, 2)
    """
    by_memory = max(1, memory // max(1, wanted.memory_bytes))
    workers = wanted.workers or max(1, min(gpus or cores(), by_memory, wanted.items))
    return workers, wanted.threads or max(1, cores() // workers)


def local_cluster(wanted: Wanted) -> SpecCluster:
    """Start workers on this machine, reachable from it alone."""
    gpus = torch.cuda.device_count() if wanted.device in ("auto", "cuda") else 0
    memory = int(MEMORY_LIMIT * MEMORY_SHARE)
    workers, threads = size(wanted, gpus, memory)
    address = f"{LOOPBACK}:{wanted.dashboard or 0}"
    scheduler = {"protocol": "tcp://", "host": LOOPBACK, "port": 0, "dashboard_address": address}
    each = {
        "host": LOOPBACK,
        "nthreads": 1,
        "memory_limit": 0 if wanted.workers else memory // workers,
        "dashboard": False,
        "dashboard_address": f"{LOOPBACK}:0",
        "silence_logs": logging.CRITICAL,
        "preload": [hushed.__name__],
    }
    resources = {"MEMORY": float(memory // workers), **({"GPU": 1.0} if gpus else {})}
    return SpecCluster(
        workers={
            number: {
                "cls": Nanny,
                "options": {**each, "resources": resources, "env": _environment(number, threads, gpus)},
            }
            for number in range(workers)
        },
        scheduler={"cls": Scheduler, "options": {**scheduler, "dashboard": wanted.dashboard is not None}},
        silence_logs=logging.CRITICAL,
    )


def _environment(number: int, threads: int, gpus: int) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    own_gpu = {"CUDA_VISIBLE_DEVICES": str(number % gpus)} if gpus else {}
    return {**dict.fromkeys(names, str(threads)), **own_gpu}


def slurm_cluster(wanted: Wanted) -> Any:
    """Submit workers as Slurm jobs; partition, account and time limit come from ``wanted.slurm`` or Dask's configuration.

    Raises:
        ConfigError: If the extra is missing or an option is refused.
    """
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError:
        raise ConfigError(
            "--cluster slurm needs dask-jobqueue, the extra slurm: pip install 'qdm-med[slurm]'"
        ) from None
    memory = max(1, -(-int(wanted.memory_bytes * 1.25) // 2**30))
    defaults = {
        "cores": wanted.threads or 1,
        "processes": 1,
        "memory": f"{memory} GiB",
        "worker_extra_args": ["--nthreads", "1", "--resources", f"MEMORY={memory * 2**30}"],
    }
    if shutil.which("sbatch") is None:
        raise ClusterError("slurm: there is no sbatch on this machine; start the run on a login node of the cluster")
    if unknown := sorted(wanted.slurm.keys() - _parameters(SLURMCluster, SLURMCluster.job_cls)):
        raise ConfigError(
            f"--slurm {', '.join(unknown)}: SLURMCluster of dask-jobqueue has no such option; see its pages"
        )
    cluster = SLURMCluster(**{**defaults, **wanted.slurm})
    try:
        _submit(cluster, wanted.workers or 1)
    except Exception as error:  # sbatch's own words, wrapped
        cluster.close()
        said = " ".join(str(error).split()).rpartition("stderr: ")[2][-200:]
        raise ClusterError(f"slurm: a job was refused ({said}); mend --slurm") from None
    return cluster


def _parameters(*classes: type) -> set[str]:
    """Names of the arguments that classes and their bases take."""
    constructors = [
        vars(base)["__init__"] for each in classes for base in each.__mro__[:-1] if "__init__" in vars(base)
    ]
    return {name for one in constructors for name in inspect.signature(one).parameters}


def _submit(cluster: Any, jobs: int) -> None:
    """Submit jobs and report what the batch system answers: Dask keeps it to itself, and the run would wait for ever."""
    cluster.scale(jobs=jobs)
    while len(cluster.workers) < jobs:
        time.sleep(0.05)
    for job in cluster.workers.values():
        if not job.job_id:
            job.status = Status.failed  # or the cluster cannot be closed
            cluster.sync(job.start)


@contextmanager
def _silenced() -> Iterator[None]:
    """Silence Dask's loggers: the run reports lost workers itself, in one line instead of twenty."""
    loggers = [logging.getLogger(name) for name in ("distributed", "tornado")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
