"""Judge findings: first figures, then bars that are held or missed, then words."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.measures import MEASURES, Measure
from qdm_med.evaluation.tables.table import Table

Figures = Mapping[str, float]
"""Measure's name -> figure."""

BICUBIC, BACK_PROJECTED = "bicubic", "back-projected"
"""Names of the opponents that bars are functions of."""


def figures_of(findings: Iterable[Finding], measures: Sequence[Measure] = MEASURES) -> dict[str, float]:
    """Merge the findings of a method over all slices; a measure that no slice shows is left out."""
    values: dict[str, list[float]] = {}
    for finding in findings:
        values.setdefault(finding.measure, []).append(finding.value)
    merged = {one.name: one.merged(values[one.name]) for one in measures if one.name in values}
    return {name: figure for name, figure in merged.items() if math.isfinite(figure)}


@dataclass(frozen=True)
class Judgement:
    """One measure of one method.

    Attributes:
        measure: The measure.
        value: The method's figure; NaN if it has none where bicubic has.
        bar: Its bar; NaN where there is none.
        bicubic: Bicubic's figure.
        held: Whether the bar is held; ``None`` where there is none.
    """

    measure: Measure
    value: float
    bar: float
    bicubic: float
    held: bool | None

    def sentence(self) -> str:
        """Fault, in words, where a bar is missed."""
        if math.isnan(self.value):
            return f"{self.measure.title}: could not be measured"
        return self.measure.fault.format(value=self.value, bar=self.bar, bicubic=self.bicubic)


def judge(
    own: Figures, opponents: Mapping[str, Figures], measures: Sequence[Measure] = MEASURES
) -> tuple[Judgement, ...]:
    """Hold a method's figures against their bars.

    Args:
        own: Figures of the method.
        opponents: Those of bicubic interpolation and of its back-projection, by their names.
        measures: Measures in this order; those that the opponents lack are left out.
    """
    bicubic, back_projected = opponents[BICUBIC], opponents[BACK_PROJECTED]
    found = []
    for measure in measures:
        if measure.name not in bicubic or measure.name not in back_projected:
            continue
        value = own.get(measure.name, float("nan"))
        bar = measure.bar(bicubic[measure.name], back_projected[measure.name])
        held = None if measure.sense == "shown" else measure.holds(value, bar)
        found.append(Judgement(measure, value, bar, bicubic[measure.name], held))
    return tuple(found)


def verdict(title: str, judgements: Sequence[Judgement]) -> str:
    """Put a physicist's objections into words, a sentence a line."""
    barred = [one for one in judgements if one.held is not None]
    missed = [one for one in barred if not one.held]
    lines = [f"{title}: {len(barred) - len(missed)} of {len(barred)} bars held"]
    return "\n".join([*lines, *(f"- {one.sentence()}" for one in missed)])


def scale_table(title: str, opponents: Mapping[str, Figures], judged: Mapping[str, Sequence[Judgement]]) -> Table:
    """Lay out all figures of a magnification: a measure a row, opponents and methods in columns.

    Args:
        title: Of the table.
        opponents: As for :func:`judge`.
        judged: Method -> its judgements; at least one.
    """
    rows = []
    for number, first in enumerate(next(iter(judged.values()))):
        measure, digits = first.measure, first.measure.digits
        before = (f"{opponents[name][measure.name]:.{digits}f}" for name in (BICUBIC, BACK_PROJECTED))
        own = (_cell(judgements[number]) for judgements in judged.values())
        bar = "" if first.held is None else f"{measure.sense} {first.bar:.{digits}f}"
        rows.append((measure.title, *before, *own, bar))
    return Table(title, ("measure", BICUBIC, BACK_PROJECTED, *judged, "bar"), tuple(rows))


def _cell(judgement: Judgement) -> str:
    shown = "n/a" if math.isnan(judgement.value) else f"{judgement.value:.{judgement.measure.digits}f}"
    return f"{shown} (missed)" if judgement.held is False else shown
