"""Summary of a run of ``eval``: headline, verdict, tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.columns import GROUP_WORDS
from qdm_med.evaluation.measures.protocols import protocols
from qdm_med.evaluation.receipt import BASELINE
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.paper_cost import paper_cost_table
from qdm_med.evaluation.tables.sweep import SweepPoint, sweep_points, sweep_table
from qdm_med.evaluation.tables.table import (
    Table,
    alarm_table,
    cost_table,
    difference_table,
    published_table,
    result_tables,
)
from qdm_med.evaluation.tables.verdict import verdict
from qdm_med.intensity import IntensityMap

KEY = (
    "↑ higher is better, ↓ lower, → nearest to it; bold is the best of its row; n/a could not be measured. What every column "
    "means: qdm-med eval --glossary"
)
"""Text below the tables."""


@dataclass(frozen=True)
class Evaluation:
    """Result of a run.

    Attributes:
        headline: One line that names the run.
        tables: Its tables.
        rows: One row for each method and slice.
        points: Of a threshold ablation; else none.
        verdict: What the tables say in plain words, a paragraph a method.
    """

    headline: str
    tables: tuple[Table, ...]
    rows: tuple[SliceScore, ...]
    points: tuple[SweepPoint, ...] = ()
    verdict: tuple[str, ...] = ()

    def text(self) -> str:
        """Headline, verdict, tables and their key as Markdown."""
        return "\n\n".join([self.headline, *self.verdict, *(table.markdown() for table in self.tables), KEY])


def evaluation_of(
    rows: Sequence[SliceScore], options: BenchmarkOptions, intensity: IntensityMap, note: str, *, is_sweep: bool
) -> Evaluation:
    """Summarise the rows of a run.

    Args:
        rows: Results.
        options: Options of the run.
        intensity: Mapping of the model.
        note: How patients of the training were kept apart.
        is_sweep: Whether the rows are of a threshold ablation.
    """
    ranges = protocols(intensity, options.degraded_in(intensity))
    titles = {protocol.name: protocol.words for protocol in ranges}
    titles["tissue"] = f"{GROUP_WORDS['tissue']}; {titles['hu']}"
    points = sweep_points(rows) if is_sweep else []
    swept = (sweep_table(points), paper_cost_table(rows)) if points else ()
    tables = tuple(table for table in swept if table) + _tables(rows, options, titles)
    told = () if is_sweep else tuple(verdict(rows, BASELINE))
    return Evaluation(_headline(rows, options, note), tables, tuple(rows), tuple(points), told)


def _headline(rows: Sequence[SliceScore], options: BenchmarkOptions, note: str) -> str:
    patients, slices = len({row.patient for row in rows}), len({row.sha256 for row in rows})
    how = "" if options.degradation == "paper" else f" as {options.degradation} slices are"
    return (
        f"{options.benchmark}, {options.split} split: {slices} slices of {patients} patients ({note}); degraded{how} in the "
        f"{options.degrade_in} range, seed {options.seed}"
    )


def _tables(rows: Sequence[SliceScore], options: BenchmarkOptions, titles: dict[str, str]) -> tuple[Table, ...]:
    tables = result_tables(rows, titles)
    if options.degradation == "paper" and (published := published_table(options.benchmark)) is not None:
        tables.append(published)
    methods = {row.method for row in rows}
    if BASELINE in methods and len(methods) > 1:
        tables.append(difference_table(rows, BASELINE))
    if options.fidelity:
        tables.append(alarm_table(rows))
    return (*tables, cost_table(rows))
