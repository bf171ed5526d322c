"""All methods of a comparison in one table, and the columns in which the method under test leads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qdm_med.evaluation.columns import COLUMNS
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.places import SHOWN, Place, is_of, places, with_interval
from qdm_med.evaluation.tables.reasons import TrainingFacts, mean_cost
from qdm_med.evaluation.tables.statistics import summarise
from qdm_med.evaluation.tables.table import Table

COSTS = ("CPU min trained", "training steps", "M parameters", "s a slice", "GMAC a slice")
ELSEWHERE = "trained elsewhere"


def comparison_table(rows: Sequence[SliceScore], facts: Mapping[str, TrainingFacts]) -> Table:
    """Lay out a row a scale and method: cost of training and use, and quality with 95 % intervals over patients.

    Args:
        rows: Of all scales.
        facts: Name of a model, with which the names of its methods begin -> its training.
    """
    found = {(one.scale, one.method, one.metric): one for one in summarise(rows)}
    columns = [COLUMNS[name] for name in SHOWN if any(metric == name for _, _, metric in found)]
    body = []
    for scale, method in sorted(dict.fromkeys((row.scale, row.method) for row in rows), key=lambda pair: pair[0]):
        trained = next((fact for name, fact in facts.items() if is_of(method, name)), None)
        cells = [f"x{scale}", method, *_training(trained), *_use([row for row in rows if row.scale == scale], method)]
        cells += [with_interval(found.get((scale, method, one.name)), one) for one in columns]
        body.append(tuple(cells))
    patients, slices = len({row.patient for row in rows}), len({row.sha256 for row in rows})
    title = f"Comparison on {slices} slices of {patients} patients, means over patients (95 %)"
    return Table(title, ("scale", "method", *COSTS, *(one.name for one in columns)), tuple(body))


def leads(rows: Sequence[SliceScore], under_test: str) -> str:
    """Say in which columns a model leads, in which it is level with the best, and in which it is behind, a line a scale."""
    lines = []
    for scale in sorted({row.scale for row in rows}):
        found = places(rows, scale, under_test)
        first = [one.column.name for one in found if one.is_ahead and not one.is_level]
        level = [_against_best(one) for one in found if one.is_level]
        behind = [_against_best(one) for one in found if not one.is_ahead and not one.is_level]
        parts = [f"x{scale}: {under_test} leads in {', '.join(first) or 'nothing'}"]
        parts += [f"level with the best, the interval holds 0, in {', '.join(level)}"] if level else []
        parts += [f"behind in {', '.join(behind) or 'nothing'}"]
        lines.append("; ".join(parts) + ".")
    return "\n".join(lines)


def _against_best(one: Place) -> str:
    ours, best = (one.column.show(each.mean) for each in (one.ours, one.best))
    difference = with_interval(one.difference, one.column, signed=True)
    return f"{one.column.name} ({one.best.method} {best}, ours {ours}, paired {difference})"


def _training(facts: TrainingFacts | None) -> tuple[str, str, str]:
    if facts is None:
        return "", "", ""
    minutes = ELSEWHERE if facts.cpu_minutes is None else f"{facts.cpu_minutes:.1f}"
    return minutes, str(facts.steps or ""), f"{facts.parameters / 1e6:.2f}"


def _use(rows: Sequence[SliceScore], method: str) -> tuple[str, str]:
    seconds, macs = mean_cost(rows, method)
    return f"{seconds:.2f}" if math.isfinite(seconds) else "n/a", f"{macs / 1e9:.1f}" if macs else ""
