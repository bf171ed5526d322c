"""A whole series, from files to files: read, super-resolve and write slice by slice."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qdm_med.errors import SeriesError
from qdm_med.inference.runs.pipeline import overlapped
from qdm_med.inference.runs.preflight import unlike_training
from qdm_med.inference.upscaler import UpscaledSlice, Upscaler
from qdm_med.io.derivation import Derivation
from qdm_med.io.read import read_volume
from qdm_med.io.write import VolumeWriter, open_uncertainty_writer, open_writer, uncertainty_output
from qdm_med.uncertainty import NOT_CALIBRATED
from qdm_med.volume import Volume

Progress = Callable[[int, int, UpscaledSlice | None], None]
"""``(slices done, slices in all, the slice just done)``; called first with no slice."""


@dataclass(frozen=True)
class UpscaleSummary:
    """What a run did.

    Attributes:
        out: What was written.
        slices: Slices in the output.
        resumed: Slices of these that an earlier, killed run had finished.
        seconds: Time of this run, reading and writing included.
        active_leaves: Share of active leaves over the slices of this run; 0 if there were none.
        active_windows: Share of downstream windows that were computed, likewise.
        warnings: What should be known about the source.
        uncertainty: Where the standard deviation of the samples was written, if it was asked for.
    """

    out: Path
    slices: int
    resumed: int
    seconds: float
    active_leaves: float
    active_windows: float
    warnings: tuple[str, ...]
    uncertainty: Path | None = None


@dataclass(frozen=True)
class Outputs:
    """Where the slices of a run go: the series, and the standard deviation of its samples if it is wanted.

    Attributes:
        series: Writer of the series.
        spread: Writer of the standard deviation.
    """

    series: VolumeWriter
    spread: VolumeWriter | None = None

    @property
    def finished(self) -> frozenset[int]:
        """Slices of which nothing is missing."""
        return self.series.finished if self.spread is None else self.series.finished & self.spread.finished

    def write(self, index: int, result: UpscaledSlice) -> None:
        """Write all that there is of a slice."""
        self.series.write(index, result.hu)
        if self.spread is not None and result.std_hu is not None:
            self.spread.write(index, result.std_hu)

    def commit(self) -> tuple[Path, Path | None]:
        """Put everything in its place, the series last: where it is, nothing is missing."""
        spread = None if self.spread is None else self.spread.commit()
        return self.series.commit(), spread


def derivation_of(upscaler: Upscaler) -> Derivation:
    """What is recorded in the output about how it was made."""
    return Derivation(
        scale=upscaler.scale,
        model=upscaler.card.name,
        model_sha256=upscaler.sha256,
        parameters=tuple(one for one in upscaler.options.identity() if one[0] != "scale"),  # which has its own place
    )


def calibration_of(upscaler: Upscaler) -> str:
    """What is recorded about the calibration of the samples' standard deviation."""
    calibration = upscaler.spread_calibration
    return calibration.description() if calibration else NOT_CALIBRATED


def upscale_series(
    source: Path,
    out: Path,
    upscaler: Upscaler,
    *,
    progress: Progress = lambda done, total, ct_slice: None,
    uncertainty: bool = False,
    strict: bool = False,
    max_memory: int | None = None,
    reader_options: Mapping[str, Any] | None = None,
    writer_options: Mapping[str, Any] | None = None,
) -> UpscaleSummary:
    """Super-resolve a series and write it as a derived one.

    A run that is killed leaves what it finished beside ``out``; the same call takes it up again.

    Args:
        source: DICOM folder or file, NIfTI, NRRD or MetaImage file.
        out: Folder (DICOM) or file to create.
        upscaler: Networks and options.
        progress: Told of every slice.
        uncertainty: Write the standard deviation of the samples in HU beside ``out``, too.
        strict: Refuse a source unlike what the model was trained on instead of warning.
        max_memory: Bytes of memory that the run may take; tiles are made small enough. ``None``: no limit.
        reader_options: Options of :func:`qdm_med.io.read.read_volume`.
        writer_options: Options of :func:`qdm_med.io.write.open_writer`.

    Raises:
        QdmMedError: If source, output or options do not serve; nothing is then written.
    """
    if uncertainty:
        upscaler.require_samples()
    started = time.perf_counter()
    volume = read_volume(source, exclude=out, **(reader_options or {}))
    unlike = unlike_training(volume, upscaler.card)
    if unlike and strict:
        raise SeriesError(f"{source}: {unlike}; use a model for such series, or do without --strict")
    if max_memory is not None:
        upscaler.keep_below(max_memory, volume.geometry.shape[1:], uncertainty=uncertainty)
    leaves: list[float] = []
    windows = windows_in_all = 0
    with ExitStack() as stack:
        outputs = _open_outputs(stack, volume, out, upscaler, uncertainty, writer_options or {})
        todo = [index for index in range(len(volume)) if index not in outputs.finished]
        resumed = len(volume) - len(todo)
        progress(resumed, len(volume), None)
        slices = overlapped(
            todo,
            lambda index: upscaler.plan(volume.slices[index], volume.provenance.series_key),
            partial(upscaler.compute, uncertainty=uncertainty),
            outputs.write,
            work=lambda plan: plan.active,
            budget=upscaler.batch_leaves,
        )
        with closing(slices):
            for done, (_, result) in enumerate(slices, start=resumed + 1):
                leaves.append(float(result.leaves.mean()))
                windows, windows_in_all = windows + result.windows, windows_in_all + result.windows_in_all
                progress(done, len(volume), result)
        written, spread = outputs.commit()
    return UpscaleSummary(
        out=written,
        slices=len(volume),
        resumed=resumed,
        seconds=time.perf_counter() - started,
        active_leaves=float(np.mean(leaves)) if leaves else 0.0,
        active_windows=windows / max(1, windows_in_all),
        warnings=(*volume.provenance.warnings, *([unlike] if unlike else [])),
        uncertainty=spread,
    )


def _open_outputs(
    stack: ExitStack,
    volume: Volume,
    out: Path,
    upscaler: Upscaler,
    uncertainty: bool,
    writer_options: Mapping[str, Any],
) -> Outputs:
    derivation = derivation_of(upscaler)
    if not uncertainty and (stale := uncertainty_output(out)).exists():
        raise SeriesError(
            f"{stale}: is the uncertainty of another output; move it away, add --uncertainty or choose another --out"
        )
    series = stack.enter_context(open_writer(volume, out, derivation, **writer_options))
    if not uncertainty:
        return Outputs(series)
    spread = open_uncertainty_writer(
        volume,
        series,
        derivation,
        calibration=calibration_of(upscaler),
        overwrite=bool(writer_options.get("overwrite", False)),
    )
    return Outputs(series, stack.enter_context(spread))
