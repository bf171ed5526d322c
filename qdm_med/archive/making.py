"""One series made exactly once: lock, ticket, output, receipt, in this order, so that a kill between any two is mended.

The ticket is written before anything appears and says what from and what with. An output that is found with a ticket and
without a receipt is whole, because outputs appear by one rename: it gets its receipt. What is found without either is not
ours.
"""

from __future__ import annotations

import copy
import json
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.manifest import FORMAT, PlannedSeries
from qdm_med.archive.receipt import InputFile, Receipt, hashed_inputs, read_receipt, write_json, write_receipt
from qdm_med.archive.settings import Settings, machine
from qdm_med.archive.sources import opened, source_files
from qdm_med.errors import QdmMedError, SeriesError
from qdm_med.files import partial_path
from qdm_med.inference.runs.admission import admitted
from qdm_med.inference.runs.by_tile import ByTile
from qdm_med.inference.runs.by_tile import Tell as Progress
from qdm_med.inference.runs.scales import Fitted, Upscalers
from qdm_med.inference.runs.series import UpscaleSummary, upscale_volume
from qdm_med.io.dicom.file import shown
from qdm_med.io.output.job_folder import os_errors_as_series_errors
from qdm_med.io.output.lock import OutputLock, lock_path
from qdm_med.io.pixel_digest import pixel_digests
from qdm_med.io.read import read_volume
from qdm_med.io.write import uncertainty_output
from qdm_med.serialise import to_mapping
from qdm_med.volume import Volume

PATIENCE_SECONDS = 24 * 3600.0
"""Seconds of waiting for a series that another worker holds; its lock ends with that worker."""


POLL_SECONDS = 0.5
"""Time between two looks at a series that another worker has."""


@dataclass(frozen=True)
class Made:
    """A finished series.

    Attributes:
        receipt: Its record.
        now: Whether this call made it; an earlier one did otherwise.
    """

    receipt: Receipt
    now: bool


@dataclass(frozen=True)
class Maker:
    """Everything that making a series takes and that all series share, on this worker.

    Attributes:
        tree: The input, absolute.
        folder: The output.
        settings: Settings of every series.
        upscalers: The model, warm, and the grid of the outputs; tiles are its own for each series.
    """

    tree: Path
    folder: ArchiveFolder
    settings: Settings
    upscalers: Upscalers

    def make(self, series: PlannedSeries, progress: Progress) -> Made:
        """Make a series, or find that it is already made; ``progress`` is told of every tile.

        Raises:
            QdmMedError: If it cannot be made; nothing of it is then left.
        """
        out = self.folder.out / series.out
        with _alone(self.folder.locks / series.id):
            receipt = self._own_receipt(out)
            if receipt and receipt.made_from(series.input_files, series.input_bytes, series.newest_ns):
                return Made(receipt, now=False)
            with opened(series, self.tree, self.folder.unpacked) as (source, options):
                volume = read_volume(source, **self.settings.reading, **options)
                return self._make(series, volume, receipt, progress)

    def _make(self, series: PlannedSeries, volume: Volume, receipt: Receipt | None, progress: Progress) -> Made:
        out, started = self.folder.out / series.out, time.time()
        inputs = hashed_inputs(source_files(series, self.tree, volume.provenance.files), self.tree)
        if receipt:
            return Made(_unchanged(receipt, inputs, out), now=False)
        summary, fitted = None, self._fitted(volume)
        if not self._begin(series, out, inputs, fitted):
            try:
                summary = self._upscale(volume, out, fitted, progress)
            except QdmMedError:
                self._ticket(series).unlink(missing_ok=True)
                raise
        made = Made(write_receipt(out, self._record(series, inputs, fitted, summary, started)), now=True)
        self._ticket(series).unlink(missing_ok=True)
        return made

    def _fitted(self, volume: Volume) -> Fitted:
        """Copy the model at the magnification of a series, so that a memory limit may change the tiles for this one."""
        upscaler, matrix = self.upscalers.fitted(volume.geometry)
        return Fitted(copy.copy(upscaler), matrix)

    def _own_receipt(self, out: Path) -> Receipt | None:
        receipt = read_receipt(out)
        if receipt is None or not out.exists():
            return None
        if receipt.key != self.settings.key:
            raise SeriesError(f"{shown(out)}: was made with other settings; move it and its receipt away")
        return receipt

    def _ticket(self, series: PlannedSeries) -> Path:
        return self.folder.tickets / f"{series.id}.json"

    def _begin(self, series: PlannedSeries, out: Path, inputs: Sequence[InputFile], fitted: Fitted) -> bool:
        """Write the ticket; True if a killed worker had finished everything but the receipt."""
        ticket = {"settings_key": self.settings.key, "inputs": [asdict(one) for one in inputs]}
        path = self._ticket(series)
        earlier = _read(path)
        if earlier is None and (in_the_way := [place for place in _places(out) if place.exists()]):
            raise SeriesError(
                f"{shown(in_the_way[0])}: is in the way and has no receipt; move it away or choose another --out"
            )
        if earlier == ticket and out.exists():
            _clear(out)
            return True
        # Batches of a GPU are cut anew where a series is resumed, and their rounding would show.
        if earlier is not None and (earlier != ticket or fitted.upscaler.batch_leaves):
            _clear(out)
        with os_errors_as_series_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, ticket)
        return False

    def _upscale(self, volume: Volume, out: Path, fitted: Fitted, progress: Progress) -> UpscaleSummary:
        settings, upscaler = self.settings, fitted.upscaler
        seen = admitted(
            volume,
            upscaler,
            strict=settings.strict,
            max_memory=settings.max_memory,
            uncertainty=settings.uncertainty,
        )
        return upscale_volume(
            volume,
            out,
            upscaler,
            progress=ByTile(upscaler, progress),
            uncertainty=settings.uncertainty,
            preflight=seen,
            writing=replace(
                settings.writing, overwrite=True, matrix=fitted.matrix
            ),  # nothing foreign is there: see _begin
        )

    def _record(
        self,
        series: PlannedSeries,
        inputs: Sequence[InputFile],
        fitted: Fitted,
        summary: UpscaleSummary | None,
        started: float,
    ) -> dict[str, Any]:
        """The receipt; without a summary of an output whose worker was killed before it could write one."""
        places = [place for place in _places(self.folder.out / series.out) if place.exists()]
        made = asdict(summary) if summary else {}
        scale = fitted.upscaler.scale
        return {
            "format": FORMAT,
            "series": series.id,
            "source": series.source,
            "out": series.out,
            "settings_key": self.settings.key,
            "settings": {**self.settings.stated, **to_mapping(self.upscalers.at(scale).options)},
            "scale": scale,
            "matrix": to_mapping(fitted.matrix),
            "tiles": fitted.upscaler.tiling.tile,
            "machine": {**machine(), "device": _device_name(self.settings.device)},
            "started": _iso(started),
            "finished": _iso(time.time()),
            "recovered": summary is None,
            **{name: made.get(name) for name in ("seconds", "resumed", "active_leaves", "active_windows")},
            "warnings": list(made.get("warnings", ())),
            "slices": series.slices if summary is None else summary.slices,
            "output_bytes": sum(_bytes(place) for place in places),
            "inputs": [asdict(one) for one in inputs],
            "pixels_sha256": {place.name: pixel_digests(place) for place in places},
        }


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold a series alone, and wait for a worker that has it: a lost worker may be cut off and still alive."""
    place.parent.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            lock = OutputLock(place)
            break
        except SeriesError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def _unchanged(receipt: Receipt, inputs: Sequence[InputFile], out: Path) -> Receipt:
    if {(one.path, one.sha256) for one in receipt.inputs} != {(one.path, one.sha256) for one in inputs}:
        raise SeriesError(
            f"{shown(out)}: its source has changed since it was made; move it and its receipt away and run again"
        )
    return receipt


def _places(out: Path) -> tuple[Path, Path]:
    return out, uncertainty_output(out)


def _clear(out: Path) -> None:
    """Remove leftovers of a killed worker beside an output that nobody is writing now."""
    for place in _places(out):
        shutil.rmtree(partial_path(place), ignore_errors=True)
        lock_path(place).unlink(missing_ok=True)


def _bytes(place: Path) -> int:
    files = place.iterdir() if place.is_dir() else [place]
    return sum(path.stat().st_size for path in files)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        ticket: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return ticket


def _device_name(kind: str) -> str:
    return torch.cuda.get_device_name() if kind == "cuda" else kind


def _iso(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
