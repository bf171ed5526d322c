"""Verdict of the tables in plain words: whether a method is nearer to the truth than interpolation, tissue by tissue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from qdm_med.evaluation.columns import WATER_HU, alarms
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.statistics import Summary, differences, summarise

FEWEST_PATIENTS = 5
"""Drawing patients anew, of fewer than these, tells nothing of other patients."""

By = Mapping[tuple[str, str], Summary]
"""(method, column) -> summary."""


def verdict(rows: Sequence[SliceScore], baseline: str) -> list[str]:
    """Sentences, a paragraph a method: errors in every tissue held against the baseline's, and what rings.

    Args:
        rows: Results of one scale.
        baseline: Name of the method that the others are held against; without its rows there is no verdict.
    """
    methods = list(dict.fromkeys(row.method for row in rows))
    if baseline not in methods:
        return []
    own = {(one.method, one.metric): one for one in summarise(rows)}
    paired = {(one.method, one.metric): one for one in summarise(differences(rows, baseline))}
    return [_paragraph(name, baseline, rows, own, paired) for name in methods if name != baseline]


def _paragraph(method: str, baseline: str, rows: Sequence[SliceScore], own: By, paired: By) -> str:
    sentences = [_tissue(method, baseline, tissue.name, own, paired) for tissue in TISSUES]
    return "\n".join(
        [
            f"{method}, held against {baseline}:",
            *(f"- {one}" for one in sentences if one),
            f"- {_ringing([row for row in rows if row.method == method])}",
        ]
    )


def _tissue(method: str, baseline: str, tissue: str, own: By, paired: By) -> str:
    """Words on one tissue; none where no slice shows it."""
    error, base = (own.get((name, f"{tissue}_mae_hu")) for name in (method, baseline))
    difference = paired.get((method, f"{tissue}_mae_hu"))
    if error is None or base is None or difference is None or not error.patients:
        return ""
    share = f"{abs(difference.mean) / base.mean:.0%}" if base.mean > 0 else f"{abs(difference.mean):.2f} HU"
    order = "less" if difference.mean < 0 else "more"
    told = f"error {error.mean:.1f} HU, {share} {order} than {base.mean:.1f}: {_certainty(difference)}"
    shift = own.get((method, f"bias_{tissue}_hu"))
    return f"{tissue.replace('_', ' ')}: {told}{_shifted(shift)}"


def _certainty(difference: Summary) -> str:
    """Word that the interval over patients allows."""
    if difference.interval is None or difference.patients < FEWEST_PATIENTS:
        return f"too few patients ({difference.patients}) to tell"
    low, high = difference.interval
    if high < 0:
        return "nearer to the truth"
    return "further from the truth" if low > 0 else "no difference that is certain"


def _shifted(bias: Summary | None) -> str:
    """Words on the mean HU; none where it was not measured."""
    if bias is None or not math.isfinite(bias.mean):
        return ""
    if abs(bias.mean) <= WATER_HU:
        return "; mean HU right"
    return f"; mean HU {abs(bias.mean):.1f} too {'high' if bias.mean > 0 else 'low'}"


def _ringing(rows: Sequence[SliceScore]) -> str:
    """Words on a method's alarms over its slices."""
    counts: dict[str, int] = {}
    for row in rows:
        for one in alarms(row.scores):
            if one.limit:
                counts[one.limit.meaning] = counts.get(one.limit.meaning, 0) + 1
    if not counts:
        return f"no alarm on {len(rows)} slices"
    told = (f"{meaning} ({count})" for meaning, count in sorted(counts.items(), key=lambda pair: -pair[1]))
    return f"alarms on slices, of {len(rows)}: {'; '.join(told)}"
