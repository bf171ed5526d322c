"""``qdm-med eval`` as one call: data, methods, run, tables, files."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from qdm_med.checkpoints.image_model import read_image_card
from qdm_med.checkpoints.model import Checkpoint, read_card
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.benchmarks import (
    HERE,
    BenchmarkOptions,
    Scoring,
    benchmark_cases,
    benchmark_methods,
    recorded_methods,
    run_benchmark,
)
from qdm_med.evaluation.cases import manifest_cases, read_manifest
from qdm_med.evaluation.exchange import export_inputs
from qdm_med.evaluation.methods.method import Method
from qdm_med.evaluation.receipt import receipt, save_results
from qdm_med.evaluation.report.figures import draw_figures
from qdm_med.evaluation.report.page import write_report
from qdm_med.evaluation.report.pictures import MOST_CASES, picture_cases
from qdm_med.evaluation.report.regions import Region, sheet_regions
from qdm_med.evaluation.report.sheet import draw_sheet, save_sheet, sheet_png
from qdm_med.evaluation.results import ResultsFolder
from qdm_med.evaluation.selection import Selection, benchmark_store, select_slices
from qdm_med.evaluation.summary import Evaluation, evaluation_of
from qdm_med.evaluation.tables.sweep import draw_sweep
from qdm_med.intensity import IntensityMap


@dataclass(frozen=True)
class Outputs:
    """Files that a run writes beside the tables that it returns.

    Attributes:
        out: Folder for receipt, cases, summary and manifest; a killed run resumes.
        report: HTML file.
        sheet: PNG of all methods side by side; the report shows it, too.
        regions: CSV with the boxes of the sheet; without it they are found, on the slices that the report shows.
        shown: Slices that the report shows, spread over patients; 0: every one.
    """

    out: Path | None = None
    report: Path | None = None
    sheet: Path | None = None
    regions: Path | None = None
    shown: int = MOST_CASES

    def __post_init__(self) -> None:
        """Refuse names that cannot become files."""
        for option, path in (("--report", self.report), ("--sheet", self.sheet)):
            if path is not None and path.is_dir():
                raise ConfigError(f"{path} is a folder; give the name of a file for {option}")
        if self.regions is not None and self.sheet is None:
            raise ConfigError("boxes are drawn on a sheet; give --sheet too")


def evaluate_checkpoint(
    data: Path,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    *,
    device: torch.device,
    scoring: Scoring = HERE,
    sweep: Sequence[float] = (),
    outputs: Outputs = Outputs(),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Evaluation:
    """Run a benchmark and write the files that were asked for.

    Args:
        data: Slice store or tree of CT files.
        checkpoint: Model.
        options: Options of the run.
        device: Device of the model in this process.
        scoring: Processes that score slices, and LPIPS if it is wanted.
        sweep: Thresholds of an ablation, which then takes the place of the other methods.
        outputs: Files to write.
        progress: Told of every slice.

    Raises:
        QdmMedError: For whatever cannot be run, in one line.
    """
    if sweep:
        options = replace(options, thresholds=tuple(sweep), methods=("qdm",), latent_models=(), count_macs=True)
    out = outputs.out
    methods = benchmark_methods(checkpoint, options, device)
    intensity = checkpoint.card.intensity
    with benchmark_store(data, options.split, None if out is None else out / "store") as store:
        selection = _selected(store, checkpoint, options)
        methods += _programs(store, selection, checkpoint, options, methods)
        regions = sheet_regions(store, selection.indices, outputs.regions) if outputs.sheet else []
        stated = receipt(store, selection, checkpoint, options, methods, scoring.perceptual)
        folder = ResultsFolder(out, stated) if out else None
        rows = run_benchmark(
            store, selection, checkpoint, options, methods, scoring=scoring, folder=folder, progress=progress
        )
        found = evaluation_of(rows, options, intensity, selection.note, is_sweep=bool(sweep))
        if out is not None:
            save_results(out, rows, options, intensity)
            if found.points:
                draw_sweep(found.points, out / "thresholds.png")
        _Pictures(store, options, intensity, methods).write(found, outputs, selection.indices, regions, stated)
    return found


@dataclass(frozen=True)
class _Pictures:
    """Slices of a run, made again to be looked at: every method gives the same pixels for the same slice."""

    store: SliceStore
    options: BenchmarkOptions
    intensity: IntensityMap
    methods: Sequence[Method]

    def write(
        self,
        found: Evaluation,
        outputs: Outputs,
        indices: Sequence[int],
        regions: Sequence[Region],
        stated: dict[str, Any],
    ) -> None:
        """Write sheet and report, if they are asked for; ``stated`` is the receipt that the report prints."""
        png = self._sheet(regions) if regions else None
        if outputs.sheet and png:
            save_sheet(png, outputs.sheet)
        if outputs.report is not None:
            pictures = picture_cases(self.store, indices, self.options, self.methods, self.intensity, outputs.shown)
            command = shlex.join(["qdm-med", *sys.argv[1:]])
            drawings = draw_figures(found.rows, pictures, found.points, sheet=png)
            receipt_shown = {**stated, "command": command}
            write_report(
                outputs.report, found.headline, found.tables, pictures, receipt_shown, drawings, verdict=found.verdict
            )

    def _sheet(self, regions: Sequence[Region]) -> bytes:
        indices = list(dict.fromkeys(region.index for region in regions))
        cases = benchmark_cases(self.store, indices, self.options, self.intensity)
        boxes = ((case, [one for one in regions if one.index == case.index]) for case in cases)
        return sheet_png(draw_sheet(boxes, self.methods))


def export_benchmark(
    data: Path,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the inputs of a benchmark for other programs; see :func:`qdm_med.evaluation.exchange.export_inputs`.

    Args:
        data: Slice store or tree of CT files.
        checkpoint: Model whose range and whose patients of the training count.
        options: Benchmark and slices; methods do not matter.
        out: Folder to create.
        progress: Told of every slice.

    Returns:
        How many slices.
    """
    with benchmark_store(data, options.split) as store:
        indices = _selected(store, checkpoint, options).indices
        cases = benchmark_cases(store, indices, options, checkpoint.card.intensity)
        return export_inputs(cases, options.benchmark, out, lambda done: progress(done, len(indices)))


def export_again(
    data: Path,
    listed: Path,
    options: BenchmarkOptions,
    out: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Write the inputs that an earlier run listed: the same pixels, whatever its model and selection were.

    Args:
        data: Slice store or tree of CT files that holds the slices.
        listed: ``benchmark.json`` or ``inputs.json`` of that run.
        options: Benchmark, and the split that the patients of a tree are put into.
        out: Folder to create.
        progress: Told of every slice.

    Returns:
        How many slices.

    Raises:
        DataError: If the list is of another benchmark, a slice is missing, or comes out otherwise than it was.
    """
    manifest = read_manifest(listed)
    if manifest["benchmark"] != options.benchmark:
        raise DataError(f"{listed} is of {manifest['benchmark']}; give --benchmark {manifest['benchmark']}")
    total = len(manifest["cases"])
    with benchmark_store(data, options.split) as store:
        cases = manifest_cases(store, manifest)
        return export_inputs(cases, options.benchmark, out, lambda done: progress(done, total))


def _selected(store: SliceStore, checkpoint: Checkpoint, options: BenchmarkOptions) -> Selection:
    others = [read_card(path)[0] for path in options.latent_models]
    images = [card for path in options.image_models if (card := read_image_card(path))]
    return select_slices(store, options.split, options.every, checkpoint.card, *others, *images)


def _programs(
    store: SliceStore,
    selection: Selection,
    checkpoint: Checkpoint,
    options: BenchmarkOptions,
    methods: Sequence[Method],
) -> list[Method]:
    """Read the results of other programs, if there are any, each under a name of its own."""
    if not options.results:
        return []
    cases = list(benchmark_cases(store, selection.indices, options, checkpoint.card.intensity))
    programs = recorded_methods(cases, options)
    names = [method.name for method in (*methods, *programs)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"two methods are called {twice[0]!r}; give --results another name")
    return programs
