"""A volume that is being written: one raw file a slice, in a folder beside the output."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError

_STATE_FILE = "state.json"


class PartialVolume:
    """Slices of one output that are finished, each a file that appears under its name only when it is whole.

    A folder that a killed run with the same ``job`` left is taken up; that of another job is emptied.

    Args:
        out: The file to be; the folder is its sibling ``.NAME.partial``.
        job: What the slices are made of and how; equal jobs make equal slices.
        shape: ``(slices, rows, columns)`` of the output.
        dtype: Stored type.
    """

    def __init__(self, out: Path, job: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.folder = out.parent / f".{out.name}.partial"
        self._shape = shape
        self._dtype = dtype
        self._state = {"job": job, "shape": list(shape), "dtype": dtype.str}
        self._finished: set[int] = set()

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the slices that need not be written again."""
        return frozenset(self._finished)

    def open(self) -> None:
        """Take up the folder of the same job, or start a new one.

        Raises:
            SeriesError: If the folder cannot be made, or is there and is not one of ours.
        """
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
            if self._kept_state() != self._state:
                self._clear()
                self._put(_STATE_FILE, json.dumps(self._state, sort_keys=True).encode())
        size = self._shape[1] * self._shape[2] * self._dtype.itemsize
        for index in range(self._shape[0]):
            path = self._slice_path(index)
            if path.is_file() and path.stat().st_size == size:
                self._finished.add(index)

    def write_slice(self, index: int, stored: NDArray[Any]) -> None:
        """Keep the ``(rows, columns)`` stored values of one slice."""
        if not 0 <= index < self._shape[0] or stored.shape != self._shape[1:] or stored.dtype != self._dtype:
            raise ValueError(f"slice {index} of {stored.dtype} {stored.shape} does not fit {self._dtype} {self._shape}")
        with writing(self.folder):
            self._put(self._slice_path(index).name, np.ascontiguousarray(stored).tobytes())
        self._finished.add(index)

    def read_slice(self, index: int) -> NDArray[Any]:
        """``(rows, columns)`` stored values of a finished slice."""
        return np.fromfile(self._slice_path(index), dtype=self._dtype).reshape(self._shape[1:])

    def missing(self) -> list[int]:
        """Indices of the slices that are not finished."""
        return [index for index in range(self._shape[0]) if index not in self._finished]

    def discard(self) -> None:
        """Remove the folder and everything in it."""
        with writing(self.folder):
            if self.folder.is_dir():
                self._clear()
                self.folder.rmdir()
        self._finished.clear()

    def _slice_path(self, index: int) -> Path:
        return self.folder / f"{index:06d}.raw"

    def _kept_state(self) -> object:
        state = self.folder / _STATE_FILE
        if not state.is_file():
            # An empty folder is a run that was killed at once, and so is one with an unfinished state.
            if any(file.name != f"{_STATE_FILE}.tmp" for file in self.folder.iterdir()):
                raise SeriesError(f"{self.folder} is in the way and not a partial output of qdm-med; move it away")
            return None
        try:
            return json.loads(state.read_bytes())
        except ValueError:
            return None

    def _clear(self) -> None:
        # The state goes last: a folder that is half cleared can still be recognised.
        for file in sorted(self.folder.iterdir(), key=lambda file: file.name == _STATE_FILE):
            file.unlink()

    def _put(self, name: str, content: bytes) -> None:
        temporary = self.folder / f"{name}.tmp"
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say in one line that ``path`` could not be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise SeriesError(f"{path} cannot be written ({reason}); free space or choose another output") from error
