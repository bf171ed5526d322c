"""Lock of an output: a file beside it that names its owner and ends with the owner's process, so that one run makes it.

Without it two runs fill one partial folder and the output mixes the slices of both.
"""

from __future__ import annotations

import json
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from qdm_med.errors import SeriesError

try:
    import fcntl
except ImportError:  # no such locks on this system
    fcntl = None  # type: ignore[assignment]

_ATTEMPTS = 100
"""A lock that its owner removes while we wait for it is looked for anew so many times."""


def lock_path(out: Path) -> Path:
    """Path of an output's lock, beside the output."""
    return out.with_name(f".{out.name}.lock")


class OutputLock:
    """The right to make an output, from construction to :meth:`release` or the end of the process, however that ends.

    Args:
        out: The output; its folder must exist.

    Raises:
        SeriesError: If another run is making it; the message names its process, host and beginning.
        OSError: If the lock cannot be written.
    """

    def __init__(self, out: Path) -> None:
        self._path = lock_path(out)
        for _ in range(_ATTEMPTS):
            descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR, 0o644)
            if not _is_free(descriptor):
                owner = _owner(descriptor)
                os.close(descriptor)
                raise SeriesError(f"{out}: {_told(owner)} is making it; wait for it or choose another --out")
            if _is_at(descriptor, self._path):
                break
            os.close(descriptor)  # its owner was done and removed it between our opening and locking it
        else:
            raise SeriesError(f"{out}: its lock {self._path.name} does not hold still; choose another --out")
        _sign(descriptor)
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Give up the right; a second call does nothing."""
        if self._descriptor is None:
            return
        with suppress(OSError):  # of a folder that went away
            if _is_at(self._descriptor, self._path):
                self._path.unlink()
        os.close(self._descriptor)
        self._descriptor = None

    def __del__(self) -> None:
        if getattr(self, "_descriptor", None) is not None:
            self.release()


def is_locked(out: Path) -> bool:
    """Whether a run is making an output now; nothing is changed."""
    try:
        descriptor = os.open(lock_path(out), os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        return not _is_free(descriptor)
    finally:
        os.close(descriptor)


def take_lock(descriptor: int) -> bool | None:
    """Lock an open file until its descriptor is closed, at the latest by the end of the process.

    Returns:
        Whether it is ours now; ``None`` where the system or the file system has no such locks.
    """
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:  # a file system without locks
            pass
    return None


def _is_free(descriptor: int) -> bool:
    """Take the lock of an open file, if nobody has it."""
    taken = take_lock(descriptor)
    return not _lives(_owner(descriptor)) if taken is None else taken


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> dict[str, Any]:
    try:
        owner = json.loads(os.pread(descriptor, 1024, 0) if hasattr(os, "pread") else os.read(descriptor, 1024))
    except (OSError, ValueError):  # not written yet
        return {}
    return owner if isinstance(owner, dict) else {}


def _lives(owner: dict[str, Any]) -> bool:
    """Whether the process that a lock names may still run; so may any process of another host, as nobody can tell."""
    if not owner or owner.get("process") == os.getpid():
        return False
    if owner.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(owner["process"]), 0)
    except (ProcessLookupError, KeyError, ValueError, TypeError):
        return False
    except OSError:  # it runs and is another user's
        return True
    return True


def _told(owner: dict[str, Any]) -> str:
    if not owner:
        return "another run"
    return f"another run (process {owner.get('process')} on {owner.get('host')}, since {owner.get('since')})"


def _sign(descriptor: int) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    owner = {"process": os.getpid(), "host": socket.gethostname(), "since": now}
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, json.dumps(owner).encode())
