"""A whole series, from files to files: read, super-resolved and written slice by slice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from qdm_med.errors import SeriesError
from qdm_med.inference.runs.admission import admitted
from qdm_med.inference.runs.pipeline import overlapped
from qdm_med.inference.runs.preflight import Preflight
from qdm_med.inference.runs.watch import Watch, plan_slice
from qdm_med.inference.upscaler import UpscaledSlice, Upscaler
from qdm_med.io.derivation import Derivation
from qdm_med.io.options import DEFAULTS, WriterOptions
from qdm_med.io.output.writer import ResumableWriter
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_uncertainty_writer, open_writer, uncertainty_output
from qdm_med.resample import area_mean
from qdm_med.uncertainty import NOT_CALIBRATED
from qdm_med.volume import FloatArray, Volume

Progress = Callable[[int, int, UpscaledSlice | None], None]
"""``(slices done, slices in all, the slice just done)``; called first with no slice."""


def _say_nothing(done: int, total: int, result: UpscaledSlice | None) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class UpscaleSummary:
    """Summary of a run.

    Attributes:
        out: Folder or file of the output.
        slices: Slices in the output.
        resumed: Slices of these that an earlier, killed run had finished.
        seconds: Time of this run, reading and writing included.
        active_leaves: Share of active leaves over the slices of this run; 0 if there were none.
        active_windows: Share of downstream windows that were computed, likewise.
        warnings: Oddities of the source, one line each.
        scale: Magnification of rows and columns.
        uncertainty: Path of the samples' standard deviation, if it was asked for.
        measured: Noise and point spread of the source, name and value, as far as it shows them.
        matrix: Rows and columns to which magnified slices were averaged; ``None``: they were not.
    """

    out: Path
    slices: int
    resumed: int
    seconds: float
    active_leaves: float
    active_windows: float
    warnings: tuple[str, ...]
    scale: int
    uncertainty: Path | None = None
    measured: tuple[tuple[str, str], ...] = ()
    matrix: tuple[int, int] | None = None

    def told(self) -> str:
        """Say how slices were made and how long it took, as a part of a line."""
        averaged = f", averaged to {self.matrix[0]}x{self.matrix[1]}," if self.matrix else ""
        return f"at x{self.scale}{averaged} in {self.seconds:.1f} s"


@dataclass(frozen=True)
class Outputs:
    """Writers of a run: of the series, and of the standard deviation of its samples if it is wanted.

    Attributes:
        series: Writer of the series.
        spread: Writer of the standard deviation.
        matrix: Rows and columns to which slices are averaged by area; ``None``: they are written as they are.
    """

    series: ResumableWriter
    spread: ResumableWriter | None = None
    matrix: tuple[int, int] | None = None

    @property
    def finished(self) -> frozenset[int]:
        """Slices that are complete in every output."""
        return self.series.finished if self.spread is None else self.series.finished & self.spread.finished

    def write(self, index: int, result: UpscaledSlice) -> None:
        """Write everything that was made of a slice."""
        self.series.write(index, self._averaged(result.hu))
        if self.spread is not None and result.std_hu is not None:
            # Neighbours err together: the mean of their standard deviations is that of their mean, and never too small.
            self.spread.write(index, self._averaged(result.std_hu))

    def _averaged(self, image: FloatArray) -> FloatArray:
        return image if self.matrix is None else area_mean(image, self.matrix)

    def commit(self) -> tuple[Path, Path | None]:
        """Put all outputs in place, the series last: where it is, nothing is missing."""
        spread = None if self.spread is None else self.spread.commit()
        return self.series.commit(), spread


def derivation_of(upscaler: Upscaler) -> Derivation:
    """Describe how an upscaler makes its output, for the output's record."""
    return Derivation(
        scale=upscaler.scale,
        model=upscaler.card.name,
        model_sha256=upscaler.sha256,
        parameters=tuple(one for one in upscaler.options.identity() if one[0] != "scale"),  # which has its own place
    )


def calibration_of(upscaler: Upscaler) -> str:
    """Describe the calibration of the samples' standard deviation, for the output's record."""
    calibration = upscaler.spread_calibration
    return calibration.description() if calibration else NOT_CALIBRATED


def upscale_series(
    source: Path,
    out: Path,
    upscaler: Upscaler,
    *,
    progress: Progress = _say_nothing,
    uncertainty: bool = False,
    strict: bool = False,
    writing: WriterOptions = DEFAULTS,
) -> UpscaleSummary:
    """Open a series with the reader's defaults and super-resolve it; arguments as for :func:`upscale_volume`.

    Args:
        source: DICOM folder or file, NIfTI, NRRD or MetaImage file.
        out: Folder (DICOM) or file to create; it may lie inside ``source``.
        upscaler: Networks and options.
        progress: Told of every slice.
        uncertainty: Write the standard deviation of the samples, too.
        strict: Refuse a source that is not in HU, or unlike what the model was trained on, instead of warning.
        writing: Options of the output.

    Raises:
        QdmMedError: If source, output or options are invalid; nothing is then written.
    """
    volume = read_volume(source, exclude=out)
    seen = admitted(volume, upscaler, strict=strict, uncertainty=uncertainty)
    return upscale_volume(
        volume, out, upscaler, progress=progress, uncertainty=uncertainty, writing=writing, preflight=seen
    )


def upscale_volume(
    volume: Volume,
    out: Path,
    upscaler: Upscaler,
    *,
    progress: Progress = _say_nothing,
    uncertainty: bool = False,
    writing: WriterOptions = DEFAULTS,
    watch: Watch | None = None,
    preflight: Preflight | None = None,
) -> UpscaleSummary:
    """Super-resolve an open volume and write it as a derived one.

    A run that is killed leaves what it finished beside ``out``; the same call takes it up again.

    Args:
        volume: The source.
        out: Folder (DICOM) or file to create.
        upscaler: Networks and options.
        progress: Told of every slice.
        uncertainty: Write the standard deviation of the samples in HU beside ``out``, too.
        writing: Options of the output.
        watch: Keeps slices of this run for a report.
        preflight: Findings of :func:`qdm_med.inference.runs.admission.admitted`; ``None``: the volume is looked at now.

    Raises:
        QdmMedError: If source, output or options are invalid; nothing is then written.
    """
    started = time.perf_counter()
    seen = admitted(volume, upscaler, uncertainty=uncertainty) if preflight is None else preflight
    warnings = (*volume.provenance.warnings, *seen.warnings)
    derivation = replace(derivation_of(upscaler), matrix=writing.matrix).assuming(
        (*volume.provenance.assumptions, *seen.parameters())
    )
    with ExitStack() as stack:
        calibration = calibration_of(upscaler) if uncertainty else None
        outputs = _open_outputs(stack, volume, out, derivation, writing, calibration)
        resumed = len(outputs.finished)
        tally = _work_through(volume, upscaler, outputs, watch or Watch(), progress)
        written, spread = outputs.commit()
    seconds = time.perf_counter() - started
    return UpscaleSummary(
        *(written, len(volume), resumed, seconds, *tally.shares(), warnings, upscaler.scale, spread),
        measured=seen.parameters(),
        matrix=writing.matrix,
    )


def _work_through(volume: Volume, upscaler: Upscaler, outputs: Outputs, watch: Watch, progress: Progress) -> _Tally:
    """Super-resolve and write the slices that the outputs lack."""
    todo = [index for index in range(len(volume)) if index not in outputs.finished]
    resumed = len(volume) - len(todo)
    progress(resumed, len(volume), None)
    slices = overlapped(
        todo,
        partial(plan_slice, volume, upscaler),
        partial(watch.compute, upscaler, uncertainty=outputs.spread is not None),
        outputs.write,
        work=lambda one: one.plan.active,
        budget=upscaler.batch_leaves,
    )
    tally = _Tally()
    with closing(slices):
        for done, (_, result) in enumerate(slices, start=resumed + 1):
            tally.count(result)
            progress(done, len(volume), result)
    return tally


class _Tally:
    """Counter of the work that a run has done."""

    def __init__(self) -> None:
        self._leaves: list[float] = []
        self._windows = self._windows_in_all = 0

    def count(self, result: UpscaledSlice) -> None:
        self._leaves.append(float(result.leaves.mean()))
        self._windows += result.windows
        self._windows_in_all += result.windows_in_all

    def shares(self) -> tuple[float, float]:
        """Share of active leaves, a mean over slices, and of windows that were computed."""
        leaves = float(np.mean(self._leaves)) if self._leaves else 0.0
        return leaves, self._windows / max(1, self._windows_in_all)


def _open_outputs(
    stack: ExitStack, volume: Volume, out: Path, derivation: Derivation, writing: WriterOptions, calibration: str | None
) -> Outputs:
    """Open the writers of a run; that of the standard deviation if its calibration is given."""
    if calibration is None and (stale := uncertainty_output(out)).exists():
        raise SeriesError(
            f"{stale}: is the uncertainty of another output; move it away, add --uncertainty or choose another --out"
        )
    series = stack.enter_context(open_writer(volume, out, derivation, writing))
    if calibration is None:
        return Outputs(series, matrix=writing.matrix)
    spread = open_uncertainty_writer(volume, series, derivation, calibration=calibration, overwrite=writing.overwrite)
    return Outputs(series, stack.enter_context(spread), writing.matrix)
