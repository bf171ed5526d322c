"""Benchmark results as Markdown tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qdm_med.evaluation.columns import GROUP_WORDS, LIMITED, Column, alarms, column, grouped
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.published import PUBLISHED
from qdm_med.evaluation.tables.statistics import Summary, differences, summarise


@dataclass(frozen=True)
class Table:
    """A table of text.

    Attributes:
        title: Title of the table.
        head: Titles of the columns.
        rows: Cells, as many a row as there are titles.
        best: Places of the best cells, row and column.
        terms: Column of the glossary that each row is about; empty where there is none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    best: frozenset[tuple[int, int]] = frozenset()
    terms: tuple[str, ...] = ()

    def markdown(self) -> str:
        """Write the table as Markdown, the best cells in bold."""
        rows = [
            [f"**{cell}**" if (row, column) in self.best else cell for column, cell in enumerate(cells)]
            for row, cells in enumerate(self.rows)
        ]
        lines = [self.head, ("---",) * len(self.head), *rows]
        return "\n".join([self.title, "", *(f"| {' | '.join(line)} |" for line in lines)])


def result_tables(rows: Sequence[SliceScore], titles: Mapping[str, str]) -> list[Table]:
    """Lay out means over patients with 95 % confidence intervals: a table a group, a measure a row, a method a column.

    Args:
        rows: Results.
        titles: Group -> title, which names the data range.
    """
    summaries = [one for one in summarise(rows) if column(one.metric).in_tables]
    methods = _methods(rows)
    head = ("mean over patients (95 %)", *methods)
    return [
        Table(
            titles.get(group, GROUP_WORDS[group]),
            head,
            _measures(summaries, methods, columns),
            _best(summaries, methods, columns),
            tuple(one.name for one in columns),
        )
        for group, columns in grouped(summary.metric for summary in summaries).items()
    ]


def difference_table(rows: Sequence[SliceScore], baseline: str) -> Table:
    """Lay out paired differences to a method on the same slices, means over patients with 95 % confidence intervals."""
    summaries = summarise(differences(rows, baseline))
    methods = [name for name in _methods(rows) if name != baseline]
    columns = [
        one
        for members in grouped(summary.metric for summary in summaries).values()
        for one in members
        if one.sense in ("high", "low")
    ]
    title = f"Paired differences to {baseline} on the same slices"
    body = _measures(summaries, methods, columns, signed=True)
    return Table(title, ("mean over patients (95 %)", *methods), body, terms=tuple(one.name for one in columns))


def alarm_table(rows: Sequence[SliceScore]) -> Table:
    """Count the slices on which each limit of fidelity is broken."""
    methods = _methods(rows)
    body = []
    for one in LIMITED:
        cells = []
        for method in methods:
            measured = [
                row for row in rows if row.method == method and math.isfinite(row.scores.get(one.name, math.nan))
            ]
            cells.append(f"{sum(one in alarms(row.scores) for row in measured)} of {len(measured)}")
        body.append((_alarm(one), *cells))
    title = "Alarms: slices beyond a limit of fidelity, and beyond what interpolation does to the same slice"
    return Table(title, ("alarm", *methods), tuple(body), terms=tuple(one.name for one in LIMITED))


def _alarm(column: Column) -> str:
    limit = column.limit
    return f"{limit.meaning} ({column.name} not in {limit.low:g} to {limit.high:g})" if limit else column.name


def _methods(rows: Sequence[SliceScore]) -> list[str]:
    return list(dict.fromkeys(row.method for row in rows))


def _measures(
    summaries: Sequence[Summary], methods: Sequence[str], columns: Sequence[Column], *, signed: bool = False
) -> tuple[tuple[str, ...], ...]:
    cells = {(one.method, one.metric): one for one in summaries}
    return tuple(
        (
            f"{one.name} {one.arrow}".rstrip(),
            *(_cell(cells.get((name, one.name)), one, signed=signed) for name in methods),
        )
        for one in columns
    )


def _best(
    summaries: Sequence[Summary], methods: Sequence[str], columns: Sequence[Column]
) -> frozenset[tuple[int, int]]:
    """Cells with the best mean of their row, as it is shown: methods that look equal are equally good."""
    means = {(one.method, one.metric): one.mean for one in summaries if math.isfinite(one.mean)}
    found = set()
    for row, one in enumerate(columns):
        shown = {
            place: round(one.loss(means[name, one.name]), one.digits)
            for place, name in enumerate(methods, start=1)
            if one.sense and (name, one.name) in means
        }
        least = min(shown.values(), default=math.nan)
        if len(shown) > 1 and least < max(shown.values()):
            found |= {(row, place) for place, loss in shown.items() if loss == least}
    return frozenset(found)


def cost_table(rows: Sequence[SliceScore]) -> Table:
    """Lay out seconds a slice and what methods know of their cost, as means over slices."""
    body = []
    for name in _methods(rows):
        own = [row for row in rows if row.method == name]
        windows = _mean_cost(own, "windows"), _mean_cost(own, "windows_in_all")
        body.append(
            (
                name,
                _seconds(own),
                _shown(_mean_cost(own, "leaf_density"), ".1%"),
                _shown(windows[0] / windows[1] if windows[0] is not None and windows[1] else None, ".1%"),
                _shown(_mean_cost(own, "macs_diffusion"), ".3e"),
                _shown(_mean_cost(own, "macs"), ".3e"),
            )
        )
    head = ("method", "s a slice", "active leaves", "active windows", "MAC of the diffusion", "MAC a slice")
    return Table("Cost, means over slices", head, tuple(body))


def _seconds(rows: Sequence[SliceScore]) -> str:
    seconds = sum(row.seconds for row in rows) / len(rows)
    return f"{seconds:.2f}" if math.isfinite(seconds) else "n/a"


def published_table(benchmark: str) -> Table | None:
    """Lay out the paper's rows of a benchmark, if there are any."""
    if benchmark not in PUBLISHED:
        return None
    body = tuple(
        (f"{row.method} (published)", f"{row.psnr_db:.2f}", f"{row.ssim:.4f}", f"{row.lpips:.4f}")
        for row in PUBLISHED[benchmark]
    )
    title = f"{benchmark} as published (arXiv 2503.12015): other slices, 8-bit window; not measured here"
    return Table(title, ("method", "PSNR dB", "SSIM", "LPIPS"), body)


def _mean_cost(rows: Sequence[SliceScore], key: str) -> float | None:
    values = [row.cost[key] for row in rows if key in row.cost]
    return sum(values) / len(values) if values else None


def _shown(value: float | None, style: str) -> str:
    return "" if value is None else format(value, style)


def _cell(summary: Summary | None, column: Column, *, signed: bool = False) -> str:
    if summary is None or summary.patients == 0:
        return "n/a"
    sign = "+" if signed else ""
    mean = f"{summary.mean:{sign}.{column.digits}f}"
    if summary.interval is None:
        return mean
    low, high = summary.interval
    return f"{mean} ({low:{sign}.{column.digits}f} to {high:{sign}.{column.digits}f})"
