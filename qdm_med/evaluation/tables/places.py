"""Places of a model among others: the best of every column, and how far the model is from it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from qdm_med.evaluation.columns import COLUMNS, Column
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.statistics import Summary, differences, summarise

SHOWN = (
    *("psnr_db", "ssim", "lpips_squeeze", "lpips_alex", "hu_psnr_db", "hu_ssim", "body_mae_hu"),
    *(f"{tissue}_mae_hu" for tissue in ("lung", "fat", "soft_tissue", "contrast_medium", "bone")),
    *("paper_psnr_db", "paper_ssim", "paper_lpips_squeeze", "paper_lpips_alex"),
)
"""Columns of a comparison, in three ranges and in HU by tissue; those that were not measured are left out."""


class Place(NamedTuple):
    """Place of a model in one column at one scale.

    Attributes:
        column: The column.
        ours: Summary of the best method of the model under test.
        best: Summary of the best method of all others.
        difference: Ours less theirs, paired by slice.
    """

    column: Column
    ours: Summary
    best: Summary
    difference: Summary

    @property
    def is_ahead(self) -> bool:
        """Whether ours is at least as good."""
        return self.difference.mean >= 0 if self.column.sense == "high" else self.difference.mean <= 0

    @property
    def is_level(self) -> bool:
        """Whether the interval of the difference holds 0: other patients might turn the order round."""
        if self.difference.interval is None:
            return False
        low, high = self.difference.interval
        return low <= 0 <= high


def places(rows: Sequence[SliceScore], scale: int, under_test: str) -> list[Place]:
    """Find the place of a model at one scale, in every column in which others were scored, too.

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
        ours = next((one for one in ranked if is_of(one.method, under_test)), None)
        best = next((one for one in ranked if not is_of(one.method, under_test)), None)
        if ours and best:
            result.append(Place(column, ours, best, paired(own, ours, best.method, column)))
    return result


def paired(rows: Sequence[SliceScore], ours: Summary, baseline: str, column: Column) -> Summary:
    """A method less another one in a column, slice by slice, over patients."""
    pair = [row for row in rows if row.method in (ours.method, baseline)]
    return next(one for one in summarise(differences(pair, baseline)) if one.metric == column.name)


def is_of(method: str, model: str) -> bool:
    """Whether a method is a way to run a model: its name is the model's, or begins with it and a comma.

    >>> is_of("qdm-t, 3 steps, s = 0.15", "qdm-t"), is_of("qdm-t, 3 steps", "qdm")
    (True, False)
    """
    return method == model or method.startswith(f"{model},")


def with_interval(summary: Summary | None, column: Column, *, signed: bool = False) -> str:
    """A mean with its 95 % interval, to the digits of its column."""
    if summary is None or summary.patients == 0:
        return "n/a"
    style = f"{'+' if signed else ''}.{column.digits}f"
    mean = format(summary.mean, style)
    if summary.interval is None:
        return mean
    low, high = (format(end, style) for end in summary.interval)
    return f"{mean} ({low} to {high})"
