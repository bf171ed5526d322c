"""Series of a slice store converted on a cluster, each into a part that appears whole; the store is as if made alone.

A worker writes the pixels of a series into a file of a name of its own, then a list that names that file. The list appears
by one rename: a series is converted if its list is there, whoever was killed and however often it was begun.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from qdm_med._version import __version__
from qdm_med.archive.cluster import Wanted, workforce
from qdm_med.archive.engine import Tell
from qdm_med.archive.ordered import Stop, in_order
from qdm_med.data.store.conversion import PARTS, Outcome, Reference, Told, references
from qdm_med.data.store.references import REFERENCE_SIDE, THUMBNAIL_SIDE
from qdm_med.data.store.sources import LeftOut, SourceSeries
from qdm_med.errors import ClusterError, QdmMedError
from qdm_med.files import write_text

PIXEL_BYTES = 2 * REFERENCE_SIDE**2
THUMBNAIL_BYTES = 4 * THUMBNAIL_SIDE**2

REPORT_SECONDS = 1.0
"""Shortest time between two reports of a series' progress."""

SERIES_BYTES = 2 * 2**30
"""Memory that converting a series may take: a volume file is read whole, DICOM slice by slice."""


@dataclass(frozen=True)
class ClusterConversion:
    """Converts series on a cluster; see :data:`qdm_med.data.store.conversion.Converting`.

    Attributes:
        wanted: The cluster.
        sources: Folder that the series were found in; workers see it at the same place.
        out: The store that is being made; workers see it, too.
    """

    wanted: Wanted
    sources: Path
    out: Path

    def __call__(self, series: Sequence[SourceSeries], told: Told) -> Iterator[tuple[SourceSeries, Iterable[Outcome]]]:
        """Yield what comes of every series, in their order.

        Raises:
            ClusterError: If the cluster fails, or a worker lacks the folders.
            DataError: As alone.
        """
        if not series:
            return
        parts = (self.out / PARTS).resolve()
        parts.mkdir(exist_ok=True)
        asked = replace(self.wanted, memory_bytes=SERIES_BYTES, items=len(series), device="cpu")
        with workforce(asked) as force:
            convert = _Convert(self.sources.resolve(), parts)
            made = in_order(
                force.client,
                convert,
                series,
                force.needs(SERIES_BYTES),
                told=lambda event: told(event["first_file"], event["share"]),
            )
            for one, name in zip(series, made, strict=True):
                part = Part(parts, name)
                yield one, part.outcomes()
                part.remove()


@dataclass(frozen=True)
class _Convert:
    """Makes the part of a series, on a worker."""

    sources: Path
    parts: Path

    def __call__(self, series: SourceSeries, tell: Tell) -> str | Stop:
        for folder in (self.sources, self.parts):
            if not folder.is_dir():
                return Stop(ClusterError(f"{folder}: a worker does not see it; mount it there at the same place"))
        part = Part(self.parts, part_name(series))
        try:
            if not part.is_there:
                part.write(references(series, _throttled(tell)))
        except QdmMedError as error:
            return Stop(error)
        except OSError as error:
            return Stop(
                ClusterError(f"{self.parts}: a worker cannot write there ({error.strerror}); make room or rights")
            )
        return part.name


def _throttled(tell: Tell) -> Told:
    """Tell of a series at most once in a while, and of its end."""
    last = time.monotonic()

    def told(first_file: str, share: float) -> None:
        nonlocal last
        if share >= 1 or time.monotonic() - last >= REPORT_SECONDS:
            last = time.monotonic()
            tell({"first_file": first_file, "share": share})

    return told


def part_name(series: SourceSeries) -> str:
    """Name that belongs to one series and one version, so that what another version converted is not taken."""
    identity = [__version__, series.series, series.label, *map(str, series.files)]
    return hashlib.sha256("\n".join(identity).encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Part:
    """References converted from one series.

    Attributes:
        folder: Folder that holds it.
        name: Its :func:`part_name`.
    """

    folder: Path
    name: str

    @property
    def _list(self) -> Path:
        return self.folder / f"{self.name}.json"

    @property
    def is_there(self) -> bool:
        """Whether it is whole."""
        return self._list.exists()

    def write(self, outcomes: Iterable[Outcome]) -> None:
        """Make it appear, with the memory of one slice.

        Raises:
            OSError: If the file system refuses.
        """
        pixels = self.folder / f"{self.name}.{uuid.uuid4().hex}.hu"
        entries = []
        try:
            with pixels.open("wb") as file:
                for one in outcomes:
                    entries.append(_entry(one))
                    if isinstance(one, Reference):
                        file.write(one.hu.tobytes() + one.thumbnail.tobytes())
            write_text(self._list, json.dumps({"pixels": pixels.name, "outcomes": entries}))
        except BaseException:
            pixels.unlink(missing_ok=True)
            raise

    def outcomes(self) -> Iterator[Outcome]:
        """Read it, one slice at a time."""
        stated = json.loads(self._list.read_text())
        with (self.folder / stated["pixels"]).open("rb") as file:
            for entry in stated["outcomes"]:
                yield LeftOut(**entry) if "reason" in entry else _reference(entry, file)

    def remove(self) -> None:
        """Make room."""
        stated = json.loads(self._list.read_text())
        self._list.unlink()
        (self.folder / stated["pixels"]).unlink()


_ARRAYS = ("hu", "thumbnail")
"""Fields that lie in the file of pixels, one slice after the other."""


def _entry(outcome: Outcome) -> dict[str, Any]:
    """Entry of the list; floats survive JSON to the last bit."""
    return {name: value for name, value in vars(outcome).items() if name not in _ARRAYS}


def _reference(entry: dict[str, Any], file: BinaryIO) -> Reference:
    hu = np.frombuffer(file.read(PIXEL_BYTES), np.int16).reshape(REFERENCE_SIDE, REFERENCE_SIDE)
    return Reference(hu=hu, thumbnail=np.frombuffer(file.read(THUMBNAIL_BYTES), np.float32), **entry)
