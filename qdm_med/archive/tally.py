"""Tally of a run: events counted into one snapshot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.work import Outcome


@dataclass(frozen=True)
class Running:
    """A series under way.

    Attributes:
        id: Its digest.
        source: Its folder or file below the tree.
        worker: Address of the worker.
        done: Slices that are computed, a share of the next one included.
        total: Slices in all.
        since: When it was begun, in s since 1970.
    """

    id: str
    source: str
    worker: str
    done: float
    total: int
    since: float


@dataclass(frozen=True)
class Snapshot:
    """Progress of a run at one moment.

    Attributes:
        updated: When this was true, in s since 1970.
        state: ``"running"`` or ``"ended"``.
        series: Series of the plan that can be super-resolved.
        refused: Series that cannot.
        done: Finished series, those of earlier runs among them.
        failed: Series that failed in this run.
        slices: Slices in all.
        slices_done: Finished slices, those of earlier runs among them.
        slices_per_second: Of this run.
        active_leaves: Mean share of active leaves of this run's slices.
        seconds_left: Estimate; ``None`` while nothing is known.
        workers: Workers of the cluster.
        running: Series under way.
    """

    updated: float
    state: str
    series: int
    refused: int
    done: int
    failed: int
    slices: int
    slices_done: int
    slices_per_second: float
    active_leaves: float
    seconds_left: float | None
    workers: int
    running: tuple[Running, ...] = ()

    @property
    def series_done(self) -> float:
        """Finished series, shares of those under way included."""
        return self.done + sum(one.done / max(1, one.total) for one in self.running)


@dataclass
class Tally:
    """Counts a run.

    Attributes:
        planned: Series that can be super-resolved.
        refused: Number of series that cannot.
        done: Digests of finished series.
        failed: Reasons of failed ones, by digest.
        workers: Workers of the cluster.
    """

    planned: Mapping[str, PlannedSeries]
    refused: int
    done: set[str]
    failed: dict[str, str] = field(default_factory=dict)
    workers: int = 0
    _running: dict[str, Running] = field(default_factory=dict)
    _began: float = field(default_factory=time.time)
    _slices: int = 0
    _leaves: float = 0.0

    def told(self, event: Mapping[str, Any]) -> None:
        """Note a worker's message about a series under way."""
        series = self.planned.get(str(event.get("id")))
        if series is None or series.id in self.done or series.id in self.failed:
            return  # told before the end, heard after it
        earlier = self._running.get(series.id)
        started = event["event"] == "started"
        since = time.time() if started or earlier is None else earlier.since
        done = 0.0 if started else round(float(event["done"]), 3)
        self._running[series.id] = Running(series.id, series.source, event["worker"], done, series.slices, since)

    def ended(self, outcome: Outcome) -> None:
        """Note the outcome of a series."""
        self._running.pop(outcome.id, None)
        if outcome.state != "done":
            self.failed[outcome.id] = outcome.reason
            return
        self.done.add(outcome.id)
        self._slices += outcome.slices
        self._leaves += outcome.slices * outcome.active_leaves

    def lost(self, identity: str) -> None:
        """Note that a series lost its worker."""
        self._running.pop(identity, None)

    def snapshot(self, state: str = "running") -> Snapshot:
        """Progress of the run now."""
        now = time.time()
        partly = sum(one.done for one in self._running.values())
        rate = (self._slices + partly) / max(1e-3, now - self._began)
        all_slices = self._count(self.planned)
        finished = self._count(self.done) + partly
        left = all_slices - finished - self._count(self.failed)
        return Snapshot(
            updated=round(now, 3),
            state=state,
            series=len(self.planned),
            refused=self.refused,
            done=len(self.done),
            failed=len(self.failed),
            slices=all_slices,
            slices_done=int(finished),
            slices_per_second=round(rate, 3),
            active_leaves=round(self._leaves / self._slices, 4) if self._slices else 0.0,
            seconds_left=round(left / rate, 1) if rate else None,
            workers=self.workers,
            running=tuple(self._running.values()),
        )

    def _count(self, identities: Iterable[str]) -> int:
        return sum(self.planned[one].slices for one in identities)
