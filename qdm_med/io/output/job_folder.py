"""Hidden folder in which an output grows, beside its place, so that a killed run can be resumed.

``.{name}.partial/job.json`` says which job it is, ``.{name}.partial/slices/`` holds one file per finished slice.
Each file appears at once or not at all.
"""

from __future__ import annotations

import errno
import json
import re
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from qdm_med.errors import NoSpaceError, SeriesError
from qdm_med.files import partial_path, write_whole
from qdm_med.io.output.lock import OutputLock

_JOB = "job.json"
_SLICES = "slices"
_SLICE_NAME = re.compile(r"(\d{5,})\.[a-z]+")


def is_job_folder(folder: Path) -> bool:
    """Whether a folder was left by a killed run."""
    return folder.name.endswith(".partial") and (folder / _JOB).is_file()


def slice_name(index: int, suffix: str) -> str:
    """Name of a slice's file, from a counter: nothing of the data reaches a path.

    >>> slice_name(0, "dcm")
    '00001.dcm'
    """
    return f"{index + 1:05d}.{suffix}"


@contextmanager
def os_errors_as_series_errors(path: Path) -> Iterator[None]:
    """Turn an error of the file system into one line."""
    try:
        yield
    except OSError as error:
        kind = NoSpaceError if error.errno in (errno.ENOSPC, errno.EDQUOT) else SeriesError
        raise kind(
            f"{path}: cannot be written ({error.strerror or error}); choose another --out or free the place"
        ) from error


class JobFolder:
    """A partial output and the identity of the run that makes it; no other run makes it at the same time.

    Args:
        out: The output that it will become.
        key: Identity of the job; a partial folder of another job is removed and begun afresh.
        check: Says once more, now that no other run is at it, whether the output may appear here.

    Attributes:
        started: Time at which the run began; a resumed run keeps it.
        run: Identity of the run.

    Raises:
        SeriesError: If the place cannot be written, is taken by something that is not ours, or another run is at it.
    """

    def __init__(self, out: Path, key: str, check: Callable[[], object] = lambda: None) -> None:
        self.path = partial_path(out)
        self.slices = self.path / _SLICES
        with os_errors_as_series_errors(self.path):
            out.parent.mkdir(parents=True, exist_ok=True)
            self._lock = OutputLock(out)
            try:
                check()
                job = self._recorded_job()
                if job.get("key") != key or not self.slices.is_dir():
                    job = self._begin(key)
                self._forget_unfinished()
            except BaseException:
                self._lock.release()
                raise
        self.started = datetime.fromisoformat(job["started"])
        self.run = uuid.UUID(job["run"])

    def _recorded_job(self) -> dict[str, str]:
        try:
            job: dict[str, str] = json.loads((self.path / _JOB).read_text())
        except FileNotFoundError:
            if self.path.exists() and not self._just_begun():
                raise SeriesError(f"{self.path}: in the way and not made by qdm-med; move it away") from None
            return {}
        except ValueError:
            return {}
        return job

    def _just_begun(self) -> bool:
        """Whether a run was killed before it could record in the folder which job it is."""
        return self.path.is_dir() and {path.name for path in self.path.iterdir()} <= {partial_path(Path(_JOB)).name}

    def _begin(self, key: str) -> dict[str, str]:
        if self.path.exists():
            shutil.rmtree(self.path)
        self.path.mkdir(parents=True)
        job = {"key": key, "started": datetime.now(UTC).isoformat(), "run": uuid.uuid4().hex}
        write_whole(self.path / _JOB, lambda file: file.write(json.dumps(job).encode()))
        self.slices.mkdir()
        return job

    def _forget_unfinished(self) -> None:
        for path in self.slices.glob(".*.partial"):
            path.unlink()

    def finished(self) -> frozenset[int]:
        """Indices of the slices that are on disk."""
        matches = (_SLICE_NAME.fullmatch(path.name) for path in self.slices.iterdir())
        return frozenset(int(match[1]) - 1 for match in matches if match)

    def remove(self) -> None:
        """Remove the folder and its lock."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()

    def leave(self) -> None:
        """Release the lock, so that another run can continue."""
        self._lock.release()


def require_space(folder: Path, needed: int) -> None:
    """Refuse to begin an output that the disk cannot hold.

    Args:
        folder: Folder of the output; it need not exist yet.
        needed: Bytes.

    Raises:
        NoSpaceError: If there is less space.
    """
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise NoSpaceError(
            f"{folder}: the output needs {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free; "
            "free some or choose another --out"
        )
