"""DICOM node that super-resolves the series pushed to it, one after the other, and sends the results on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qdm_med.errors import QdmMedError, TransferError
from qdm_med.inference.runs.admission import admitted
from qdm_med.inference.runs.by_tile import ByTile
from qdm_med.inference.runs.scales import Upscalers
from qdm_med.inference.runs.series import UpscaleSummary, upscale_volume
from qdm_med.io.dicom.file import quiet
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.io.write import uncertainty_output
from qdm_med.pacs.addresses import Destination
from qdm_med.pacs.receiver import Door, Receiver
from qdm_med.pacs.send import send_folder
from qdm_med.pacs.spool import Job, Spool

POLL_SECONDS = 0.1
DISK_PAUSE = 5.0
"""Seconds before a spool that failed is tried again."""
FIRST_PAUSE, LONGEST_PAUSE = 15.0, 600.0
"""Seconds before a destination that failed is tried again; doubled each time."""

Report = Callable[[str], None]
"""Takes a line for the operator; no patient data are in it."""
Watch = Callable[[int, float, int], None]
"""Told, tile by tile, the number of a job, how many of its slices are done, a share included, and how many there are."""


@dataclass(frozen=True)
class Making:
    """Settings of the making of derived series.

    Attributes:
        reading: Keyword arguments of :func:`qdm_med.io.read.read_volume`.
        strict: Put series aside that are unlike what the model was trained on.
        uncertainty: Make and send the standard deviation of the samples, too.
        max_memory: Bytes that a series may take; ``None``: no limit.
        writing: How derived series are written.
    """

    reading: Mapping[str, Any] = field(default_factory=dict)
    strict: bool = False
    uncertainty: bool = False
    max_memory: int | None = None
    writing: WriterOptions = WriterOptions()


@dataclass
class Worker:
    """Worker that takes jobs from the queue, one at a time.

    Attributes:
        spool: Spool with the queue.
        upscalers: Networks, options and the grid of the results.
        destination: Node or web service for the derived series.
        title: Our own application entity title.
        report: Told of every step.
        making: How derived series are made.
        watch: Told how far the job in hand is.
        first_pause: Seconds before a destination that failed is tried again; doubled each time.
    """

    spool: Spool
    upscalers: Upscalers
    destination: Destination
    title: str
    report: Report
    making: Making = Making()
    watch: Watch = lambda job, done, total: None
    first_pause: float = FIRST_PAUSE
    _pauses: dict[int, tuple[float, float]] = field(default_factory=dict, init=False)

    def step(self) -> None:
        """Do the oldest job that need not wait, if there is one."""
        now = time.monotonic()
        job = next((job for job in self.spool.jobs() if self._pauses.get(job.number, (0.0, 0.0))[0] <= now), None)
        if job is not None and self._is_derived(job):
            self._send(job)

    def _is_derived(self, job: Job) -> bool:
        if job.derived.is_dir():
            return True
        try:
            summary = self._super_resolve(job)
        except QdmMedError as error:
            self._fail(job, str(error))
            return False
        except Exception as error:  # one odd series must not keep all others waiting, nor its texts reach a log
            self._fail(job, f"{type(error).__name__} while it was super-resolved; report it")
            return False
        for warning in summary.warnings:
            self.report(f"job {job.number}: warning: {warning}")
        resumed = f" ({summary.resumed} of them before a restart)" if summary.resumed else ""
        self.report(f"job {job.number}: {summary.slices} slices{resumed} {summary.told()}")
        return True

    def _super_resolve(self, job: Job) -> UpscaleSummary:
        making = self.making
        volume = read_volume(job.source, exclude=job.derived, **making.reading)
        upscaler, matrix = self.upscalers.fitted(volume.geometry)
        seen = admitted(
            volume,
            upscaler,
            strict=making.strict,
            max_memory=making.max_memory,
            uncertainty=making.uncertainty,
        )
        return upscale_volume(
            volume,
            job.derived,
            upscaler,
            progress=ByTile(upscaler, lambda done, total, _: self.watch(job.number, done, total)),
            uncertainty=making.uncertainty,
            writing=replace(making.writing, matrix=matrix),
            preflight=seen,
        )

    def _send(self, job: Job) -> None:
        try:
            folders = (job.derived, uncertainty_output(job.derived))
            count = sum(
                send_folder(folder, self.destination, title=self.title) for folder in folders if folder.is_dir()
            )
        except TransferError as error:
            _, pause = self._pauses.get(job.number, (0.0, self.first_pause))
            self._pauses[job.number] = (time.monotonic() + pause, min(2 * pause, LONGEST_PAUSE))
            self.report(f"job {job.number}: {error}; tried again in {pause:.0f} s")
            return
        except QdmMedError as error:
            self._fail(job, str(error))
            return
        self.spool.finish(job)
        self._pauses.pop(job.number, None)
        self.report(f"job {job.number}: {count} instances stored by {self.destination}")

    def _fail(self, job: Job, reason: str) -> None:
        aside = self.spool.fail(job, " ".join(reason.split()))
        self.report(f"job {job.number}: put aside in {aside}: {reason}")


def listen(
    root: Path,
    door: Door,
    make_worker: Callable[[Spool], Worker],
    *,
    report: Report,
    settle: float,
    stop: threading.Event | None = None,
) -> None:
    """Listen until ``stop`` is set, by default for ever.

    Jobs that an earlier listener left in the spool, killed or not, are resumed.

    Args:
        root: Spool folder.
        door: Address to listen on, and the callers that are admitted.
        make_worker: Makes the worker for the spool.
        report: Told of every step.
        settle: Seconds without a new instance after which a series counts as complete.
        stop: Ends the listener between two jobs.

    Raises:
        QdmMedError: If the spool or the address cannot be had.
    """
    stop = stop or threading.Event()
    with quiet(), Spool(root) as spool, Receiver(door, spool, report=report) as receiver:
        worker = make_worker(spool)
        report(f"listening as {door.title} at {door.host}:{receiver.port}, spool {root}")
        while not stop.wait(POLL_SECONDS):
            try:
                for series in receiver.settled(settle):
                    job = spool.enqueue(series)
                    report(f"job {job.number}: {job.instances()} instances received")
                worker.step()
            except OSError as error:  # of a full disk or a share that went away; what is in the spool waits
                report(f"spool {root}: {error.strerror}; tried again in {DISK_PAUSE:.0f} s")
                stop.wait(DISK_PAUSE)
