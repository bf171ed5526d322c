"""``archive run``: plan, skip finished series, hand the rest to a cluster, keep the books."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qdm_med.archive.cluster import Wanted, Workforce, workforce
from qdm_med.archive.engine import Beat, Engine, Finished, GivenUp, Happening, Retried, Tell, Told
from qdm_med.archive.events import EventLog, read_events
from qdm_med.archive.folder import ArchiveFolder, require_apart
from qdm_med.archive.manifest import Manifest, PlannedSeries
from qdm_med.archive.plan import plan_archive
from qdm_med.archive.receipt import read_receipt, write_json
from qdm_med.archive.request import Request
from qdm_med.archive.settings import Settings
from qdm_med.archive.tally import Snapshot, Tally
from qdm_med.archive.work import Job, Outcome, super_resolve
from qdm_med.errors import ClusterError, DataError

STATUS_SECONDS = 1.0
"""Time between two snapshots on disk."""

Watch = Callable[[Snapshot], None]
"""Told where the run is, about once a second."""


@dataclass(frozen=True)
class RunSummary:
    """Result of a run.

    Attributes:
        out: Root of the outputs.
        made: Series that this run made.
        already: Series that were done before.
        failed: Reasons by source.
        refused: Series that the plan refuses.
        slices: Slices that this run made.
        seconds: Time of this run, the scan included.
    """

    out: Path
    made: int
    already: int
    failed: Mapping[str, str]
    refused: int
    slices: int
    seconds: float


def plan_only(request: Request) -> Manifest:
    """Scan a tree and write the plan of its archive; of one that is begun, with its settings alone.

    Raises:
        QdmMedError: As for :func:`run_archive`.
    """
    require_apart(request.tree, request.out)
    folder = ArchiveFolder(request.out)
    with folder.owned():
        settings = request.settings
        if (earlier := folder.settings()) is not None:  # a plan is not asked how files are written
            settings = replace(settings, writing=Settings.of_stated(earlier).writing)
        _require_same_but_device(folder, settings)
        return _plan(request, folder)


def run_archive(
    request: Request, wanted: Wanted, *, rescan: bool | None = None, watch: Watch = lambda snapshot: None
) -> RunSummary:
    """Super-resolve every CT series of a tree, each exactly once; the same call resumes a killed run.

    Args:
        request: The request.
        wanted: The cluster; its memory and items are set from the plan.
        rescan: Look at the tree again; ``None``: unless there is a plan that no run has come to the end of.
        watch: Told where the run is.

    Raises:
        QdmMedError: If input, output, model, settings or cluster cannot be used, or the disk is full; what is finished
            is kept. A series that cannot be made is no error of the run.
    """
    started = time.time()
    require_apart(request.tree, request.out)
    folder = ArchiveFolder(request.out)
    with folder.owned():
        _require_same_but_device(folder, request.settings)
        manifest = folder.planned() if _has_open_plan(folder, request, rescan) else _plan(request, folder)
        run = _Run(request, folder, manifest, EventLog(folder.events), watch)
        try:
            run.go(wanted)
        finally:
            run.log.close()
        folder.tidy()
    return run.summary(time.time() - started)


def _plan(request: Request, folder: ArchiveFolder) -> Manifest:
    return plan_archive(request.tree, folder, request.upscalers(), request.settings)


def _require_same_but_device(folder: ArchiveFolder, settings: Settings) -> None:
    """Refuse other settings before the scan; the device is known only once workers are there."""
    if (earlier := folder.settings()) is not None:
        folder.require_settings(replace(settings, device=str(earlier.get("device"))))


def _has_open_plan(folder: ArchiveFolder, request: Request, rescan: bool | None) -> bool:
    """Whether the plan that is there is to be followed: for the same tree and grid, and not yet carried out."""
    if rescan or not folder.manifest.exists():
        return False
    manifest = folder.planned()
    if manifest.tree != request.tree:
        raise DataError(f"{folder.out}: holds the series of {manifest.tree}; choose another --out")
    if not manifest.is_asked_with(request.settings.planning):
        return False
    ended = {event.get("scanned") for event in read_events(folder.events) if event["event"] == "end"}
    return rescan is False or manifest.scanned not in ended


class _Run:
    """One run over a plan."""

    def __init__(
        self, request: Request, folder: ArchiveFolder, manifest: Manifest, log: EventLog, watch: Watch
    ) -> None:
        self.log = log
        self._request, self._folder, self._manifest, self._watch = request, folder, manifest, watch
        planned = {one.id: one for one in manifest.accepted}
        done = {one.id for one in manifest.accepted if self._is_done(one)}
        self._already = len(done)
        self._tally = Tally(planned, len(manifest.series) - len(planned), done)
        self._slices = 0
        self._shown = 0.0

    def go(self, wanted: Wanted) -> None:
        """Make every unfinished series, the longest first, so that no worker is left with a long one at the end."""
        todo = sorted(
            (one for one in self._manifest.accepted if one.id not in self._tally.done),
            key=lambda one: (-one.seconds, one.id),
        )
        self.log.add("run", scanned=self._manifest.scanned, todo=len(todo), done=self._already)
        if todo:
            largest = max(one.memory_bytes for one in todo)
            with workforce(
                replace(wanted, memory_bytes=largest, items=len(todo), device=self._request.device)
            ) as force:
                self._make(todo, force)
        self._show("ended")
        self.log.add("end", scanned=self._manifest.scanned, failed=len(self._tally.failed))

    def _make(self, todo: list[PlannedSeries], force: Workforce) -> None:
        settings = replace(self._request.settings, device=force.device)
        self._folder.require_settings(settings)
        job = Job(self._request.tree, self._folder.out, settings, self._request.checkpoint, self._request.device)
        engine = Engine(force.client, _Making(job), lambda one: force.needs(one.memory_bytes))
        happenings = engine.work_through(self._fitting(todo, force))
        try:
            for happening in happenings:
                self._note(happening)
        finally:
            happenings.close()

    def _fitting(self, todo: list[PlannedSeries], force: Workforce) -> Iterator[PlannedSeries]:
        """Leave out series for which no worker has the memory: they would wait for ever."""
        for one in todo:
            if force.memory_bytes is None or one.memory_bytes <= force.memory_bytes:
                yield one
                continue
            needed, there = one.memory_bytes / 2**30, force.memory_bytes / 2**30
            reason = f"needs {needed:.2f} GiB, the largest worker has {there:.2f}; use --max-memory or larger workers"
            self._ended(Outcome(one.id, "failed", reason))

    def _note(self, happening: Happening[PlannedSeries]) -> None:
        match happening:
            case Finished(_, outcome):
                self._ended(outcome)
            case GivenUp(series, reason):
                self._ended(Outcome(series.id, "failed", reason))
            case Retried(series):
                self._tally.lost(series.id)
                self.log.add("retried", id=series.id)
            case Told(event):
                self._told(event)
            case Beat(workers, _):
                self._tally.workers = workers
                if time.monotonic() - self._shown >= STATUS_SECONDS:
                    self._show("running")

    def _told(self, event: Mapping[str, Any]) -> None:
        self._tally.told(event)
        if event["event"] == "started":
            self.log.add("started", id=event["id"], worker=event["worker"])

    def _ended(self, outcome: Outcome) -> None:
        if outcome.state == "stop":
            raise ClusterError(f"{outcome.reason}; what is finished is kept, run again to go on")
        self._tally.ended(outcome)
        self._slices += outcome.slices - outcome.resumed if outcome.made else 0
        record = asdict(outcome)
        self.log.add(record.pop("state"), **record)

    def _show(self, state: str) -> None:
        self._shown = time.monotonic()
        snapshot = self._tally.snapshot(state)
        write_json(self._folder.status, asdict(snapshot))
        self._watch(snapshot)

    def _is_done(self, series: PlannedSeries) -> bool:
        """Whether an output has a receipt of just this source; the worker checks all others more closely."""
        out = self._folder.out / series.out
        try:
            receipt = read_receipt(out)
        except DataError:
            return False
        same = receipt is not None and receipt.made_from(series.input_files, series.input_bytes, series.newest_ns)
        return same and out.exists() and self._same_settings(receipt.key if receipt else "")

    def _same_settings(self, key: str) -> bool:
        earlier = self._folder.settings() or {}
        return key == replace(self._request.settings, device=str(earlier.get("device", ""))).key

    def summary(self, seconds: float) -> RunSummary:
        """Result of the run."""
        planned = {one.id: one for one in self._manifest.series}
        return RunSummary(
            out=self._folder.out,
            made=len(self._tally.done) - self._already,
            already=self._already,
            failed={planned[one].source: reason for one, reason in self._tally.failed.items()},
            refused=len(self._manifest.series) - len(self._manifest.accepted),
            slices=self._slices,
            seconds=seconds,
        )


@dataclass(frozen=True)
class _Making:
    """:func:`super_resolve` with its job, in a form that can be sent to a worker."""

    job: Job

    def __call__(self, series: PlannedSeries, tell: Tell) -> Outcome:
        return super_resolve(self.job, series, tell)
