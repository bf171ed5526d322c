"""Reasons why a method leads or does not: what was logged of its training and counted of its use, beside those of the best."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.places import Place, is_of, paired, places, with_interval

EQUAL_SHARE = 0.05
"""Difference of processor minutes, relative to the longest, that is still called equal."""


@dataclass(frozen=True)
class TrainingFacts:
    """Facts about a network's training, from its card, its log and its configuration.

    Attributes:
        parameters: Of the network; without the autoencoder of a latent model.
        scales: Magnifications among which it shared its steps.
        cpu_minutes: Processor minutes of its training steps; ``None``: it was trained elsewhere.
        steps: Training steps; ``None`` where nobody knows.
        loss: Terms of its loss and their weights; empty where nobody knows.
        still_falling: Share by which the mean of its logged loss fell from the third to the last quarter of the training.
    """

    parameters: int
    scales: tuple[int, ...]
    cpu_minutes: float | None = None
    steps: int | None = None
    loss: str = ""
    still_falling: float | None = None


def share_still_falling(losses: Sequence[float]) -> float | None:
    """Share by which the mean of a loss fell from the third to the last quarter of its log.

    >>> share_still_falling([9.0, 8.0, 4.0, 3.0])
    0.25

    Returns:
        ``None`` for fewer than four values, or where the third quarter's mean is 0.
    """
    quarter = len(losses) // 4
    if not quarter:
        return None
    last = sum(losses[-quarter:])
    before = sum(losses[-2 * quarter : -quarter])
    return 1 - last / before if before else None


def reasons(rows: Sequence[SliceScore], facts: Mapping[str, TrainingFacts], under_test: str) -> str:
    """Say what sets a model apart from those that are ahead of it, a line each, all of it logged, counted or scored.

    Args:
        rows: Of all scales.
        facts: Name of a model, with which the names of its methods begin -> its training.
        under_test: Name of the model.
    """
    lines = []
    for scale in sorted({row.scale for row in rows}):
        own = [row for row in rows if row.scale == scale]
        found = places(rows, scale, under_test)
        lines += _rivals(own, found, facts, under_test)
        lines += _own_choice(own, found)
    return "\n".join(f"- {line}" for line in [*lines, *_trainings(facts)])


def _rivals(
    rows: Sequence[SliceScore], found: Sequence[Place], facts: Mapping[str, TrainingFacts], under_test: str
) -> list[str]:
    """A line for each method that is the best of some column in which ours is behind."""
    ahead: dict[str, list[Place]] = {}
    for one in found:
        if not one.is_ahead and not one.is_level:
            ahead.setdefault(one.best.method, []).append(one)
    lines = []
    for method, columns in ahead.items():
        ours = columns[0].ours.method
        theirs = next((fact for name, fact in facts.items() if is_of(method, name)), None)
        told = [*_training(theirs, facts[under_test]), *_use(rows, method, ours)]
        names = ", ".join(one.column.name for one in columns)
        lines.append(f"x{rows[0].scale}: {method} is ahead of {ours} in {names}: {'; '.join(told)}.")
    return lines


def _training(theirs: TrainingFacts | None, ours: TrainingFacts) -> list[str]:
    if theirs is None:
        return ["it is no network of this comparison"]
    told = [f"{_count(theirs.parameters)} parameters against {_count(ours.parameters)}"]
    if theirs.steps and ours.steps and theirs.cpu_minutes:
        told.append(
            f"{theirs.steps} training steps in {theirs.cpu_minutes:.1f} CPU min for {_scales(theirs)} against "
            f"{ours.steps} in {ours.cpu_minutes or 0:.1f} for {_scales(ours)}"
        )
    if theirs.cpu_minutes is None:
        told.append("trained elsewhere")
    if theirs.loss:
        told.append(f"loss {theirs.loss} against {ours.loss}")
    return told


def _use(rows: Sequence[SliceScore], method: str, ours: str) -> list[str]:
    """Multiplications and seconds of a slice, theirs against ours."""
    told = []
    (their_seconds, their_macs), (our_seconds, our_macs) = (mean_cost(rows, name) for name in (method, ours))
    if their_macs and our_macs:
        told.append(f"{their_macs / 1e9:.1f} GMAC a slice against {our_macs / 1e9:.1f}")
    if math.isfinite(their_seconds):
        told.append(f"{their_seconds:.2f} s a slice against {our_seconds:.2f}")
    return told


def _own_choice(rows: Sequence[SliceScore], found: Sequence[Place]) -> list[str]:
    """A line for what one way of running our network gains and loses against another, where they lead in different columns."""
    error = next((one for one in found if one.column.name == "psnr_db"), None)
    likeness = next((one for one in found if one.column.name.startswith("lpips")), None)
    if error is None or likeness is None or error.ours.method == likeness.ours.method:
        return []
    told = [
        f"{one.column.name} {with_interval(paired(rows, error.ours, likeness.ours.method, one.column), one.column, signed=True)}"
        for one in (error, likeness)
    ]
    return [f"x{rows[0].scale}: {error.ours.method} against {likeness.ours.method}, paired: {', '.join(told)}."]


def _trainings(facts: Mapping[str, TrainingFacts]) -> list[str]:
    """Compare the processor minutes, and name the losses that were still falling when they were up."""
    minutes = {name: fact.cpu_minutes for name, fact in facts.items() if fact.cpu_minutes is not None}
    lines = []
    if len(minutes) > 1:
        (low, least), *_, (high, most) = sorted(minutes.items(), key=lambda pair: pair[1])
        equal = "equal" if most - least <= EQUAL_SHARE * most else "not equal"
        lines.append(f"Processor minutes of training, logged: {equal}, {least:.2f} ({low}) to {most:.2f} ({high}).")
    falling = {name: fact.still_falling for name, fact in facts.items() if fact.still_falling is not None}
    if falling:
        told = ", ".join(f"{name} {share:+.1%}" for name, share in sorted(falling.items(), key=lambda pair: -pair[1]))
        lines.append(f"Fall of the logged loss from the third to the last quarter of the training: {told}.")
    return lines


def mean_cost(rows: Sequence[SliceScore], method: str) -> tuple[float, float]:
    """Mean seconds and multiply-accumulates of a slice; the latter 0 where they were not counted."""
    own = [row for row in rows if row.method == method]
    macs = [row.cost["macs"] for row in own if "macs" in row.cost]
    return sum(row.seconds for row in own) / len(own), sum(macs) / len(macs) if macs else 0.0


def _scales(facts: TrainingFacts) -> str:
    return " and ".join(f"x{scale}" for scale in facts.scales)


def _count(parameters: int) -> str:
    return f"{parameters / 1e6:.2f} M"
