"""Work of one worker: one series after the other, the model loaded once, every end reported as a record."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.making import Maker
from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.settings import Settings, versions
from qdm_med.device import pick_device
from qdm_med.errors import ClusterError, NoSpaceError, QdmMedError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.by_tile import Tell as Progress
from qdm_med.inference.runs.matrix import Grid
from qdm_med.inference.runs.scales import Upscalers, load_upscalers
from qdm_med.inference.upscaler import UpscaledSlice

REPORT_SECONDS = 1.0
"""Shortest time between two reports of a series' progress."""

Tell = Callable[[Mapping[str, Any]], None]
"""Receives what happens to a series while it is under way."""


@dataclass(frozen=True)
class Job:
    """Settings that all series of a run share; small, as it travels with each.

    Attributes:
        tree: The input, absolute.
        out: The output, absolute.
        settings: Settings of every series.
        checkpoint: File of the model, as workers see it.
        device: Device of the networks, such as ``"cuda"``.
    """

    tree: Path
    out: Path
    settings: Settings
    checkpoint: Path
    device: str


@dataclass(frozen=True)
class Outcome:
    """End of a series: done or failed, and with what figures.

    Attributes:
        id: Its digest.
        state: ``"done"``, ``"failed"`` (for a reason of its own), or ``"stop"`` (for one that all others share).
        reason: Why it is not done.
        slices: Slices of its output.
        resumed: Slices of these that an earlier, killed attempt had finished.
        seconds: Time on the worker.
        active_leaves: Share of active leaves.
        output_bytes: Bytes of its output.
        made: Whether this run made it; it was there otherwise.
    """

    id: str
    state: Literal["done", "failed", "stop"]
    reason: str = ""
    slices: int = 0
    resumed: int = 0
    seconds: float = 0.0
    active_leaves: float = 0.0
    output_bytes: int = 0
    made: bool = False


def super_resolve(job: Job, series: PlannedSeries, tell: Tell = lambda event: None) -> Outcome:
    """Make one series; any failure becomes its outcome."""
    started = time.perf_counter()
    try:
        tell({"event": "started", "id": series.id, "slices": series.slices})
        maker = Maker(job.tree, ArchiveFolder(job.out), job.settings, _model(job))
        made = maker.make(series, _throttled(series, tell))
    except (ClusterError, NoSpaceError) as error:
        return Outcome(series.id, "stop", str(error))
    except QdmMedError as error:
        return Outcome(series.id, "failed", str(error), seconds=time.perf_counter() - started)
    except Exception as error:  # a defect of ours or a library's: it ends one series, not the archive
        return Outcome(series.id, "failed", _unexpected(error), seconds=time.perf_counter() - started)
    record = made.receipt.record
    return Outcome(
        series.id,
        "done",
        slices=made.receipt.slices,
        resumed=record["resumed"] or 0,
        seconds=time.perf_counter() - started,
        active_leaves=record["active_leaves"] or 0.0,
        output_bytes=record["output_bytes"],
        made=made.now,
    )


def _unexpected(error: Exception) -> str:
    """Place in the code where an unexpected error arose; its own words may hold patient data."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return f"unexpected {type(error).__name__} at {where}; please report it with what `qdm-med info` says of the source"


def _model(job: Job) -> Upscalers:
    if (here := versions()) != dict(job.settings.versions):
        raise ClusterError(f"a worker has versions {here}, the run {dict(job.settings.versions)}; install the same")
    settings = job.settings
    return _warm(job.checkpoint, settings.model_sha256, settings.options, job.device, settings.grid)


@lru_cache(maxsize=1)
def _warm(checkpoint: Path, sha256: str, options: UpscaleOptions, device: str, grid: Grid) -> Upscalers:
    try:
        upscalers = load_upscalers(checkpoint, options, device=device, grid=grid)
        upscalers.all()
    except QdmMedError as error:
        raise ClusterError(f"a worker cannot load the model: {error}") from None
    if upscalers.sha256 != sha256:
        raise ClusterError(f"{checkpoint}: a worker finds another model there; give all workers the same file")
    return upscalers


def _throttled(series: PlannedSeries, tell: Tell) -> Progress:
    last = time.monotonic()

    def progress(done: float, total: int, ct_slice: UpscaledSlice | None) -> None:
        nonlocal last
        now = time.monotonic()
        if done < total and now - last >= REPORT_SECONDS:
            last = now
            tell({"event": "slices", "id": series.id, "done": done, "total": total})

    return progress


def describe_worker(device: str) -> dict[str, Any]:
    """Describe this worker: versions and kind of device."""
    return {"versions": versions(), "device": pick_device(device).type}
