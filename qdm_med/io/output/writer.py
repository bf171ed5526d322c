"""Common ground of all writers: a checked place, a partial output that survives a kill, one rename at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from qdm_med.errors import QdmMedError, SeriesError
from qdm_med.files import write_whole
from qdm_med.io.dicom.file import shown
from qdm_med.io.output.job_folder import JobFolder, os_errors_as_series_errors, require_space, slice_name
from qdm_med.volume import FloatArray, Volume


class ResumableWriter(ABC):
    """Writer that takes the slices of a super-resolved volume in any order and puts them in place together.

    Use it in a ``with`` block that ends with :meth:`commit`. If the process is killed or interrupted, what was
    finished stays beside ``out`` and the next writer of the same job goes on from there; if a
    :class:`~qdm_med.errors.QdmMedError` leaves the block, nothing stays.

    Args:
        volume: The source.
        place: Gives what to create, or refuses: asked again when no other run is at it any more.
        matrix: Rows and columns of the output.
        key: Identity of the job; a partial output of another job is begun afresh.
        suffix: File name suffix of one slice.
        slice_bytes: Bytes that one slice needs.

    Attributes:
        finished: Indices of slices that an earlier, killed run of the same job has written.
    """

    def __init__(
        self,
        volume: Volume,
        place: Callable[[], Path],
        *,
        matrix: tuple[int, int],
        key: str,
        suffix: str,
        slice_bytes: int,
    ) -> None:
        self.volume = volume
        self.out = place()
        self.matrix = matrix
        self._suffix = suffix
        self._job = JobFolder(self.out, key, place)
        self.finished = self._job.finished() & frozenset(range(len(volume)))
        try:
            require_space(self._job.path, slice_bytes * (len(volume) - len(self.finished)))
        except SeriesError:
            if self.finished:  # what an earlier run has finished is worth keeping
                self._job.leave()
            else:
                self._job.remove()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, QdmMedError):
            self._job.remove()
        else:
            self._job.leave()

    def write(self, index: int, hu: FloatArray) -> None:
        """Write one slice; when this returns, it is on disk.

        Args:
            index: Number of the slice in the source.
            hu: ``matrix`` HU, finite.

        Raises:
            SeriesError: If the image does not fit the slice, is not finite, or cannot be written.
        """
        if not 0 <= index < len(self.volume) or hu.shape != self.matrix:
            raise SeriesError(
                f"slice {index} of shape {hu.shape} does not fit {len(self.volume)} slices of "
                f"{self.matrix[0]}x{self.matrix[1]}"
            )
        if not np.isfinite(hu).all():
            raise SeriesError(f"slice {index}: the model gave values that are not numbers; use another checkpoint")
        path = self._job.slices / slice_name(index, self._suffix)
        with os_errors_as_series_errors(path):
            write_whole(path, lambda file: self._write_slice(file, index, hu))

    def commit(self) -> Path:
        """Check that every slice is there, put the output in its place and return it.

        Raises:
            SeriesError: If a slice is missing or unreadable, or the place was taken meanwhile.
        """
        missing = sorted(set(range(len(self.volume))) - self._job.finished())
        if missing:
            raise SeriesError(f"{shown(self.out)}: {len(missing)} slices were not written, first {missing[0]}")
        with os_errors_as_series_errors(self.out):
            self._put_in_place()
        self._job.remove()
        return self.out

    def slice_path(self, index: int) -> Path:
        """Path of a finished slice, in the format of the output, until all are there."""
        return self._job.slices / slice_name(index, self._suffix)

    @abstractmethod
    def _write_slice(self, file: BinaryIO, index: int, hu: FloatArray) -> None:
        """Encode one slice into an open file."""

    @abstractmethod
    def _put_in_place(self) -> None:
        """Assemble the output from the finished slices."""
