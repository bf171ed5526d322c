"""Spool of a listener on disk: a kill at any moment loses nothing that was answered with Success.

``receiving/{series}/{instance}.dcm`` is what associations bring, ``queue/{number}/source/`` a series whose turn comes,
``queue/{number}/derived/`` its result, ``failed/{number}/`` what could not be super-resolved, with the reason. A folder
moves on by one rename. Names are counters and digests: nothing of a data set reaches a path.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from qdm_med.errors import SeriesError
from qdm_med.files import sync_folder, write_whole
from qdm_med.io.dicom.file import shown
from qdm_med.io.dicom.header import read_slice_header
from qdm_med.io.output.job_folder import os_errors_as_series_errors
from qdm_med.io.output.lock import take_lock


@dataclass(frozen=True)
class Job:
    """A received series in the queue.

    Attributes:
        folder: Folder of the job.
    """

    folder: Path

    @property
    def number(self) -> int:
        """Place in the queue."""
        return int(self.folder.name)

    @property
    def source(self) -> Path:
        """Folder of the received instances."""
        return self.folder / "source"

    @property
    def derived(self) -> Path:
        """Folder of the derived series, there once it is complete."""
        return self.folder / "derived"

    def instances(self) -> int:
        """Number of received instances."""
        return sum(1 for _ in self.source.iterdir())


class Spool:
    """Folder of a listener; one listener at a time may have it.

    Its methods may be called from several threads.

    Args:
        root: Folder, made if it is absent. Only its owner may enter it, for it holds patients' images.

    Raises:
        SeriesError: If it cannot be written, or another listener has it.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()
        self._receiving, self._arriving = self._root / "receiving", self._root / "arriving"
        self._queue, self._failed, self._trash = self._root / "queue", self._root / "failed", self._root / "trash"
        self._lock = threading.Lock()
        with os_errors_as_series_errors(root):
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._owner = _owned(self._root)
            for half_done in (self._arriving, self._trash):
                shutil.rmtree(half_done, ignore_errors=True)
            for folder in (self._receiving, self._arriving, self._queue, self._failed, self._trash):
                folder.mkdir(exist_ok=True)
            for job in _jobs(self._queue):
                if not any(job.folder.iterdir()):  # killed between making the folder and filling it
                    job.folder.rmdir()
            sync_folder(self._root)
        self._last = max((job.number for folder in (self._queue, self._failed) for job in _jobs(folder)), default=0)

    def __enter__(self) -> Self:
        """Lock the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Unlock the folder."""
        os.close(self._owner)

    def take(self, content: bytes, *, sop_class: str, sop_uid: str) -> str:
        """Keep an instance; when this returns, it is on disk and survives a power cut.

        Args:
            content: A DICOM file.
            sop_class: SOP Class UID that it was announced with.
            sop_uid: SOP Instance UID that it was announced with.

        Returns:
            Digest that stands for its series.

        Raises:
            SeriesError: If the file is damaged, or not what was announced, or another one with its UID is here.
            OSError: If it cannot be written.
        """
        arrived = self._arriving / f"{uuid.uuid4().hex}.dcm"
        try:
            _flush(arrived, content)
            header = read_slice_header(arrived)
            if header is None or (header.sop_class, header.sop_uid) != (sop_class, sop_uid):
                raise SeriesError("an instance is not what it was announced as; check the sending node")
            series = _digest(header.study_uid, header.series_uid)
            self._put(arrived, content, self._receiving / series, f"{_digest(sop_uid)}.dcm")
        finally:
            arrived.unlink(missing_ok=True)
        return series

    def _put(self, arrived: Path, content: bytes, folder: Path, name: str) -> None:
        with self._lock:  # or the folder might move on to the queue between the steps
            folder.mkdir(exist_ok=True)
            place = folder / name
            if place.exists() and place.read_bytes() != content:
                raise SeriesError("two different instances with one SOPInstanceUID; mend them at the sending node")
            arrived.replace(place)
            sync_folder(folder)
            sync_folder(self._receiving)

    def receiving(self) -> list[str]:
        """Digests of the series that have instances but no place in the queue yet."""
        return sorted(folder.name for folder in self._receiving.iterdir())

    def enqueue(self, series: str) -> Job:
        """Give a received series the next place in the queue; instances that come later make another job."""
        with self._lock:
            self._last += 1
            job = Job(self._queue / f"{self._last:06d}")
            job.folder.mkdir()
            (self._receiving / series).rename(job.source)
            for folder in (job.folder, self._queue, self._receiving):
                sync_folder(folder)
        return job

    def jobs(self) -> Iterator[Job]:
        """Jobs in the queue, the oldest first."""
        return (job for job in _jobs(self._queue) if job.source.is_dir())

    def finish(self, job: Job) -> None:
        """Remove a finished job; one rename, so that a kill leaves all of it or nothing."""
        done = self._trash / f"{job.folder.name}-{uuid.uuid4().hex}"
        job.folder.rename(done)
        sync_folder(self._queue)
        shutil.rmtree(done, ignore_errors=True)

    def fail(self, job: Job, reason: str) -> Path:
        """Set a job aside with the reason; moving its folder back into ``queue`` tries it again."""
        with suppress(OSError):  # of a full disk, perhaps, which is then the reason; the rename needs no room
            write_whole(job.folder / "reason.txt", lambda file: file.write(f"{reason}\n".encode()))
        aside = self._failed / job.folder.name
        job.folder.rename(aside)
        sync_folder(self._failed)
        return aside


def _flush(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _jobs(folder: Path) -> list[Job]:
    return [Job(path) for path in sorted(folder.iterdir()) if path.name.isdecimal()]


def _digest(*uids: str) -> str:
    return hashlib.sha256("\n".join(uids).encode()).hexdigest()[:32]


def _owned(root: Path) -> int:
    """Lock a folder for as long as the descriptor is open; without locks the port alone keeps a second listener away."""
    descriptor = os.open(root / "lock", os.O_CREAT | os.O_RDWR, 0o600)
    if take_lock(descriptor) is False:
        os.close(descriptor)
        raise SeriesError(f"{shown(root)}: another listener has this spool; choose another --spool")
    return descriptor
