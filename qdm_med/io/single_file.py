"""Write a super-resolved volume into one file: slice by slice, resumable, atomic."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.partial import PartialVolume, writing
from qdm_med.io.planes import VOID_HU
from qdm_med.volume import BoolArray, FloatArray, Volume


@dataclass(frozen=True)
class VoxelCoding:
    """How HU are stored: ``HU = slope * stored + inter``.

    Attributes:
        integer: int16, rounded and clamped, if True; float32 otherwise, with padding as NaN.
        slope: Of integers; floats are stored as they are.
        inter: Likewise.
    """

    integer: bool
    slope: float = 1.0
    inter: float = 0.0

    @property
    def dtype(self) -> np.dtype[Any]:
        """Stored type, little-endian."""
        return np.dtype("<i2" if self.integer else "<f4")

    def encode(self, hu: FloatArray, padding: BoolArray) -> NDArray[Any]:
        """Stored values of ``(rows, columns)`` finite HU; under ``padding`` -1024 HU, or NaN in float files."""
        if not self.integer:
            return np.where(padding, np.float32(np.nan), hu).astype(self.dtype)
        stored = (np.where(padding, VOID_HU, hu).astype(np.float64) - self.inter) / self.slope
        limits = np.iinfo(np.int16)
        return np.clip(np.rint(stored), limits.min, limits.max).astype(self.dtype)


class SingleFileWriter(ABC):
    """Writer of one output file; finished slices wait in a sibling folder until :meth:`commit` joins them.

    A run that is killed or interrupted leaves the folder, and the same call takes it up. Leaving the ``with`` block
    on an error before a slice was finished leaves nothing.

    Args:
        volume: The source; its padding is repeated in the output.
        out: File to create, in a folder that exists.
        derivation: Scale and model, and what else identifies the job.
        coding: How HU are stored.
        suffixes: What ``out`` may end in.
        overwrite: Replace ``out`` if it is there.

    Raises:
        SeriesError: If ``out`` cannot be written; nothing is then touched.
    """

    def __init__(
        self,
        volume: Volume,
        out: Path,
        derivation: Derivation,
        coding: VoxelCoding,
        *,
        suffixes: Sequence[str],
        overwrite: bool,
    ) -> None:
        _check_output(out, volume.provenance.files, suffixes, overwrite=overwrite)
        self.out = out
        self._volume = volume
        self._derivation = derivation
        self._coding = coding
        self._geometry = volume.geometry.upscaled_in_plane(derivation.scale)
        self._partial = PartialVolume(out, _job(volume, derivation), self._geometry.shape, coding.dtype)

    @property
    def finished(self) -> frozenset[int]:
        """Indices of the slices that need not be written, an earlier run's included."""
        return self._partial.finished

    def __enter__(self) -> Self:
        """Start, or take up what a killed run of the same job left."""
        self._partial.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the partial folder if nothing in it is worth keeping."""
        interrupted = kind is not None and not issubclass(kind, Exception)
        if not interrupted and not self.finished:
            self._partial.discard()

    def write(self, index: int, hu: FloatArray) -> None:
        """Keep one super-resolved slice.

        Args:
            index: Slice of the source.
            hu: ``(rows * scale, columns * scale)`` float32 Hounsfield units, all finite.
        """
        if hu.shape != self._geometry.shape[1:] or not np.isfinite(hu).all():
            raise ValueError(f"slice {index} must be {self._geometry.shape[1:]} finite HU, got {hu.shape} {hu.dtype}")
        scale = self._derivation.scale
        padding = self._volume.slices[index].padding.repeat(scale, axis=0).repeat(scale, axis=1)
        self._partial.write_slice(index, self._coding.encode(hu, padding))

    def commit(self) -> Path:
        """Join the slices into ``out``, which appears only when it is whole.

        Raises:
            SeriesError: If the disk does not take it; the slices stay, and the same call takes them up.
        """
        if missing := self._partial.missing():
            raise RuntimeError(f"{len(missing)} slices were not written, the first is {missing[0]}")
        # Inside the partial folder: on the same file system, and gone with it if the run is given up.
        temporary = self._partial.folder / f"joined-{self.out.name}"
        with writing(self.out):
            self._join(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(self.out)
        self._partial.discard()
        return self.out

    @abstractmethod
    def _join(self, temporary: Path) -> None:
        """Write all slices into one file."""


def _check_output(out: Path, sources: Sequence[Path], suffixes: Sequence[str], *, overwrite: bool) -> None:
    if not out.name.lower().endswith(tuple(suffixes)):
        raise SeriesError(f"{out}: the name of this output must end in {' or '.join(suffixes)}; rename it")
    if not out.parent.is_dir():
        raise SeriesError(f"{out}: folder {out.parent} does not exist; create it first")
    if not os.access(out.parent, os.W_OK):
        raise SeriesError(f"{out}: folder {out.parent} is not writable; choose another output")
    if out.is_dir() or (out.exists() and not overwrite):
        raise SeriesError(f"{out} exists already; choose another output, or say overwrite if it is a file")
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        raise SeriesError(f"{out} is the source itself, which is never overwritten; choose another output")


def _job(volume: Volume, derivation: Derivation) -> str:
    """Identity of a job. The grid alone is none: another patient on the same grid must not be mixed in."""
    stamp = hashlib.sha256()
    for path in volume.provenance.files:
        stat = path.stat()
        stamp.update(f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    return f"{derivation.job_key(volume.provenance.series_key)} {stamp.hexdigest()}"
