"""Report of a super-resolved series: its true slices are unknown, so the figures tell how far it agrees with its source.

A few slices are kept while they are computed, and shown beside their interpolated source.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qdm_med._version import __version__
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.source_agreement import SourceAgreement, source_agreement
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.evaluation.report.page import write_report
from qdm_med.evaluation.report.pictures import INPUT, INTERPOLATED, MOST_CASES, Picture, PictureCase, hu_png, mask_png
from qdm_med.evaluation.tables.table import Table
from qdm_med.inference.finish import interpolated
from qdm_med.inference.runs.series import UpscaleSummary, calibration_of, derivation_of
from qdm_med.inference.runs.watch import SeenSlice, Watch
from qdm_med.inference.upscaler import UpscaledSlice, Upscaler
from qdm_med.intensity import HU_MIN
from qdm_med.volume import Volume

TITLE = "CT super-resolution: what was made of a series"
SUFFIXES = (".html", ".htm")


@dataclass(frozen=True)
class Shown:
    """One slice of the report.

    Attributes:
        case: Its pictures, titled by its place in the series.
        result: Super-resolved slice.
        agreement: Agreement of the result with the source.
        seconds: Time that the networks took.
    """

    case: PictureCase
    result: UpscaledSlice
    agreement: SourceAgreement
    seconds: float


def check_report_place(path: Path, source: Path, out: Path, *, overwrite: bool = False) -> None:
    """Refuse a place for the report before anything is computed, if it cannot appear there.

    Args:
        path: HTML file to write.
        source: Series that must stay as it is.
        out: Output, which holds nothing but its slices.
        overwrite: Whether a report there may be replaced.

    Raises:
        ConfigError: If the name or the place is invalid.
    """
    place = path.resolve()
    if place.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{path}: a report is one HTML file; give --report a name that ends in .html")
    if place.is_dir():
        raise ConfigError(f"{path}: is a folder; give the name of an HTML file for --report")
    if place.exists() and not overwrite:
        raise ConfigError(f"{path}: exists; choose another --report or use --overwrite")
    for folder in (source.resolve(), out.resolve()):
        if folder in place.parents:
            raise ConfigError(f"{path}: lies inside {folder.name}; choose a --report outside the input and the output")
    existing = next(parent for parent in place.parents if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError(f"{path}: {existing} is no folder that can be written; choose another --report")


def slices_to_show(volume: Volume) -> Watch:
    """Choose the slices of a volume for its report, to be kept while they are computed."""
    return Watch(spread_over(len(volume), MOST_CASES))


def report_volume(
    volume: Volume,
    path: Path,
    upscaler: Upscaler,
    summary: UpscaleSummary,
    watch: Watch,
    *,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Write one HTML file about a super-resolved volume; it needs no network and names no patient.

    Args:
        volume: The source.
        path: HTML file to write.
        upscaler: Upscaler of the run.
        summary: Summary of the run.
        watch: From :func:`slices_to_show`, given to the run; slices of an earlier, killed one are made again.
        options: Options as the user gave them, for the receipt.

    Raises:
        QdmMedError: If the source cannot be read any more or the file cannot be written.
    """
    shown = [_show(seen, len(volume), upscaler) for seen in watch.complete(volume, upscaler)]
    slices, rows, columns = volume.geometry.shape
    headline = (
        f"{_slices(slices)} of {rows} x {columns} pixels at x{upscaler.scale} with {upscaler.card.name}. There is no true "
        "slice to compare with: the figures say how far the result agrees with its source."
    )
    headline = " ".join([headline, *(f"Warning: {line}." for line in summary.warnings)])
    tables = [_agreement_table(shown), _work_table(shown, summary)]
    cases = [one.case for one in shown]
    write_report(path, headline, tables, cases, _receipt(volume, upscaler, summary, options or {}), title=TITLE)


def spread_over(count: int, most: int) -> list[int]:
    """Indices of up to ``most`` of ``count`` slices, evenly spaced and away from the ends.

    >>> spread_over(40, 3), spread_over(2, 3)
    ([6, 20, 33], [0, 1])
    """
    parts = min(most, count)
    return [int((part + 0.5) * count / parts) for part in range(parts)]


def _show(seen: SeenSlice, count: int, upscaler: Upscaler) -> Shown:
    ct_slice, result, scale = seen.source, seen.result, upscaler.scale
    padding = ct_slice.padding.repeat(scale, axis=0).repeat(scale, axis=1)
    plain = upscaler.card.intensity.to_hu(interpolated(seen.plan.image, scale)[0].numpy())
    mean = f", mean of {upscaler.samples} samples" if upscaler.samples > 1 else ""
    pictures = (
        Picture(INPUT, hu_png(np.where(ct_slice.padding, HU_MIN, ct_slice.hu))),
        Picture(INTERPOLATED, hu_png(np.where(padding, HU_MIN, plain))),
        Picture(
            f"{upscaler.card.name}, x{scale}{mean}",
            hu_png(np.where(padding, HU_MIN, result.hu)),
            leaves=mask_png(result.leaves),
            std=None if result.std_hu is None else hu_png(np.where(padding, 0, result.std_hu)),
        ),
    )
    case = PictureCase(f"slice {seen.number + 1} of {count}", scale, padding.shape, pictures)
    return Shown(case, result, source_agreement(result.hu, ct_slice, scale), seen.seconds)


def _agreement_table(shown: Sequence[Shown]) -> Table:
    tissues = tuple(f"{tissue.name.replace('_', ' ')} bias" for tissue in TISSUES)
    return Table(
        "Agreement with the source in HU: mean of each block of the result minus the source's pixel",
        ("slice", "mean", "mean absolute", "99 % within", *tissues),
        tuple(
            (
                one.case.title,
                _hu(one.agreement.bias, "+.2f"),
                _hu(one.agreement.mae, ".2f"),
                _hu(one.agreement.most, ".2f"),
                *(_hu(value, "+.2f") for value in one.agreement.tissues),
            )
            for one in shown
        ),
    )


def _work_table(shown: Sequence[Shown], summary: UpscaleSummary) -> Table:
    computed = summary.slices - summary.resumed
    series = (
        f"the run, {_slices(computed)}" + (f" (and {summary.resumed} of an earlier one)" if summary.resumed else ""),
        f"{summary.active_leaves:.1%}" if computed else "n/a",
        f"{summary.active_windows:.1%}" if computed else "n/a",
        f"{summary.seconds / computed:.2f}" if computed else "n/a",
        "",
    )
    slices = tuple(
        (
            one.case.title,
            f"{one.result.leaves.mean():.1%}",
            f"{one.result.windows / max(1, one.result.windows_in_all):.1%}",
            f"{one.seconds:.2f}",
            "" if one.result.std_hu is None else f"{one.result.std_hu.mean():.1f}",
        )
        for one in shown
    )
    head = ("slice", "active leaves", "active windows", "s a slice", "mean uncertainty HU")
    return Table("Where detail was generated, and what it took", head, (series, *slices))


def _slices(count: int) -> str:
    return f"{count} slice" if count == 1 else f"{count} slices"


def _hu(value: float, style: str) -> str:
    return "n/a" if np.isnan(value) else format(value, style)


def _receipt(volume: Volume, upscaler: Upscaler, summary: UpscaleSummary, options: Mapping[str, Any]) -> dict[str, Any]:
    """Record everything that makes the pixels reproducible; of the source only its format and its grid."""
    slices, rows, columns = volume.geometry.shape
    return {
        "qdm_med": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "model": upscaler.card.name,
        "model_sha256": upscaler.sha256,
        "scale": upscaler.scale,
        **dict(derivation_of(upscaler).parameters),
        **dict(summary.measured),
        **({"warnings": list(summary.warnings)} if summary.warnings else {}),
        **({"uncertainty": calibration_of(upscaler)} if upscaler.samples > 1 else {}),
        "options": {key: value for key, value in options.items() if value is not None},
        "source": f"{volume.provenance.source_format}, {_slices(slices)} of {rows} x {columns} pixels",
        "spacing_mm": [round(value, 4) for value in volume.geometry.spacing],
    }
