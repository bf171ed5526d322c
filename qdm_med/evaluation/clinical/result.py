"""Result of a run of the clinical benchmark: tables, verdicts, JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdm_med.evaluation.clinical.judge import Figures, Judgement, scale_table, verdict
from qdm_med.evaluation.tables.table import Table


@dataclass(frozen=True)
class ScaleResult:
    """Findings at one magnification.

    Attributes:
        scale: Magnification.
        slices: Slices behind it.
        opponents: Figures of bicubic interpolation and of its back-projection.
        judged: Method -> its figures against their bars.
    """

    scale: int
    slices: int
    opponents: Mapping[str, Figures]
    judged: Mapping[str, tuple[Judgement, ...]]

    def table(self) -> Table:
        """Table of all figures."""
        return scale_table(f"x{self.scale}, {self.slices} slices", self.opponents, self.judged)

    def verdicts(self) -> list[str]:
        """A physicist's verdict on each method."""
        return [verdict(f"x{self.scale}, {name}", judgements) for name, judgements in self.judged.items()]

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        methods = {
            name: {
                "held": sum(one.held is True for one in judgements),
                "bars": sum(one.held is not None for one in judgements),
                "figures": {one.measure.name: _number(one.value) for one in judgements},
                "missed": {one.measure.name: one.sentence() for one in judgements if one.held is False},
            }
            for name, judgements in self.judged.items()
        }
        first = next(iter(self.judged.values()))
        bars = {
            one.measure.name: {"title": one.measure.title, "sense": one.measure.sense, "bar": _number(one.bar)}
            for one in first
        }
        return {"slices": self.slices, "opponents": dict(self.opponents), "methods": methods, "bars": bars}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None  # JSON knows no NaN


@dataclass(frozen=True)
class ClinicalResult:
    """Result of a run.

    Attributes:
        headline: One line that names the run.
        scales: One result a magnification.
        receipt: Record that makes the run reproducible, in JSON types.
    """

    headline: str
    scales: tuple[ScaleResult, ...]
    receipt: Mapping[str, Any]

    def text(self) -> str:
        """Headline, tables and verdicts."""
        parts = [part for one in self.scales for part in (one.table().markdown(), *one.verdicts())]
        return "\n\n".join([self.headline, *parts])

    def as_json(self) -> dict[str, Any]:
        """The same in JSON types."""
        found = {f"x{one.scale}": one.as_json() for one in self.scales}
        return {"headline": self.headline, "receipt": dict(self.receipt), **found}
