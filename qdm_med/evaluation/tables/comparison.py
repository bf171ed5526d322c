"""All methods of a comparison in one table, and where the method under test leads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from qdm_med.evaluation.columns import COLUMNS, Column
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.statistics import Summary, differences, summarise
from qdm_med.evaluation.tables.table import Table

SHOWN = (
    *("psnr_db", "ssim", "lpips_squeeze", "lpips_alex"),
    *("hu_psnr_db", "hu_ssim", "body_mae_hu", "lung_mae_hu", "soft_tissue_mae_hu", "bone_mae_hu"),
    *("paper_psnr_db", "paper_ssim", "paper_lpips_squeeze", "paper_lpips_alex"),
)
"""Columns, in three ranges and in HU by tissue; those that were not measured are left out."""

WHY = (
    "Networks trained on squared error answer with the mean of what the truth may be, which PSNR, MAE and mostly SSIM reward; a "
    "sampler's answer is one of the possible truths, which LPIPS rewards. Latent models answer x4 and x8 with one network."
)


class Place(NamedTuple):
    """Where a method stands in one column at one scale.

    Attributes:
        column: The column.
        best: Summary of the best method.
        ours: Summary of the method under test.
        difference: Ours less the best, paired by slice; ``None`` where ours is the best.
    """

    column: Column
    best: Summary
    ours: Summary
    difference: Summary | None


def comparison_table(rows: Sequence[SliceScore], cpu_minutes: Mapping[str, float]) -> Table:
    """A row a scale and method: cost of training and use, and quality with 95 % intervals over patients.

    Args:
        rows: Of all scales.
        cpu_minutes: Name of a model, with which the names of its methods begin -> processor minutes of its training.
    """
    found = {(one.scale, one.method, one.metric): one for one in summarise(rows)}
    columns = [COLUMNS[name] for name in SHOWN if any(metric == name for _, _, metric in found)]
    body = []
    for scale, method in sorted(dict.fromkeys((row.scale, row.method) for row in rows), key=lambda pair: pair[0]):
        own = [row for row in rows if (row.scale, row.method) == (scale, method)]
        minutes = cpu_minutes.get(model_of(method))
        cells = [f"x{scale}", method, "" if minutes is None else f"{minutes:.1f}", *_cost(own)]
        cells += [_with_interval(found.get((scale, method, one.name)), one) for one in columns]
        body.append(tuple(cells))
    head = ("scale", "method", "CPU min trained", "s a slice", "GMAC a slice", *(one.name for one in columns))
    patients, slices = len({row.patient for row in rows}), len({row.sha256 for row in rows})
    title = f"Comparison on {slices} slices of {patients} patients, means over patients (95 %)"
    return Table(title, head, tuple(body))


def places(rows: Sequence[SliceScore], scale: int, under_test: str) -> list[Place]:
    """Where the methods of a model stand at one scale, in every column of which more or less is better.

    Args:
        rows: Results.
        scale: Only rows of it count.
        under_test: Name of the model.
    """
    own = [row for row in rows if row.scale == scale]
    found = summarise(own)
    result = []
    for column in (COLUMNS[name] for name in SHOWN):
        ranked = sorted(
            (one for one in found if one.metric == column.name and math.isfinite(one.mean)),
            key=lambda one: -one.mean if column.sense == "high" else one.mean,
        )
        ours = [one for one in ranked if model_of(one.method) == under_test]
        if ours:
            result.append(Place(column, ranked[0], ours[0], _difference(own, ours[0], ranked[0])))
    return result


def _difference(rows: Sequence[SliceScore], ours: Summary, best: Summary) -> Summary | None:
    if ours == best:
        return None
    pair = [row for row in rows if row.method in (ours.method, best.method)]
    paired = summarise(differences(pair, best.method))
    return next(one for one in paired if one.metric == ours.metric)


def leads(rows: Sequence[SliceScore], under_test: str) -> str:
    """Say in which columns a model leads and in which not, by how much, a line a scale."""
    lines = []
    for scale in sorted({row.scale for row in rows}):
        found = places(rows, scale, under_test)
        first = [one.column.name for one in found if one.difference is None]
        others = [
            f"{one.column.name} ({one.best.method} {one.column.show(one.best.mean)}, ours {one.column.show(one.ours.mean)}, "
            f"paired {_with_interval(one.difference, one.column, signed=True)})"
            for one in found
            if one.difference is not None
        ]
        lines.append(
            f"x{scale}: {under_test} leads in {', '.join(first) or 'nothing'}; not in {'; '.join(others) or 'none'}."
        )
    return "\n".join([*lines, WHY])


def model_of(method: str) -> str:
    """The model that a method's name begins with.

    >>> model_of("qdm-t, 3 steps, s = 0.15")
    'qdm-t'
    """
    return method.split(",")[0]


def _cost(rows: Sequence[SliceScore]) -> tuple[str, str]:
    seconds = sum(row.seconds for row in rows) / len(rows)
    macs = [row.cost["macs"] for row in rows if "macs" in row.cost]
    counted = f"{sum(macs) / len(macs) / 1e9:.1f}" if macs else ""
    return f"{seconds:.2f}" if math.isfinite(seconds) else "n/a", counted


def _with_interval(summary: Summary | None, column: Column, *, signed: bool = False) -> str:
    if summary is None or summary.patients == 0:
        return "n/a"
    style = f"{'+' if signed else ''}.{column.digits}f"
    mean = format(summary.mean, style)
    if summary.interval is None:
        return mean
    low, high = (format(end, style) for end in summary.interval)
    return f"{mean} ({low} to {high})"
