"""Measures of the clinical benchmark in one table: figure, title, bar, and the sentence for a missed bar.

A bar is a function of the figures of bicubic interpolation and of its back-projection on the same slices, so that it moves
with the data. Both need no training: a network that does not do better has learnt nothing that helps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from qdm_med.evaluation.clinical.ladder import STEPS_HU
from qdm_med.evaluation.clinical.patients import WAYS
from qdm_med.evaluation.clinical.resolution import LINE_PAIRS, line_pair_measure
from qdm_med.evaluation.measures.tissues import TISSUES

Sense = Literal["at most", "at least", "shown"]
Merge = Literal["mean", "worst", "geometric"]
Bar = Callable[[float, float], float]
"""``(bicubic's figure, back-projected's) -> bar``."""


@dataclass(frozen=True)
class Measure:
    """A measure of the benchmark.

    Attributes:
        name: In files.
        title: In tables.
        fault: Sentence for a bar that is missed; ``{value}``, ``{bar}`` and ``{bicubic}`` are filled in.
        sense: On which side of the bar is good; ``"shown"``: there is no bar.
        bar: The bar.
        merge: Rule by which the figures of slices become one.
        digits: Decimals shown.
        magnitude: Whether the sign counts for nothing.
    """

    name: str
    title: str
    fault: str
    sense: Sense
    bar: Bar = lambda bicubic, back_projected: float("nan")
    merge: Merge = "mean"
    digits: int = 3
    magnitude: bool = False

    def merged(self, values: Sequence[float]) -> float:
        """Merge figures of many slices into one; NaN of none."""
        known = np.array([value for value in values if np.isfinite(value)])
        if not len(known):
            return float("nan")
        if self.merge == "geometric":
            return float(np.exp(np.log(np.maximum(known, 1e-3)).mean()))
        return float(known.max() if self.merge == "worst" else known.mean())

    def holds(self, value: float, bar: float) -> bool:
        """Whether a figure is on the good side of its bar; an unmeasured one is not."""
        size = abs(value) if self.magnitude else value
        return bool(size <= bar if self.sense == "at most" else size >= bar)


def constant(bar: float) -> Bar:
    """Bar that does not move."""
    return lambda bicubic, back_projected: bar


def of_bicubic(factor: float, least: float = -np.inf) -> Bar:
    """Bar at a multiple of bicubic's figure, but never below ``least``."""
    return lambda bicubic, back_projected: max(factor * abs(bicubic), least)


def of_the_smaller(factor: float) -> Bar:
    """Bar at a multiple of the smaller of two figures."""
    return lambda bicubic, back_projected: factor * min(bicubic, back_projected)


def of_the_larger(bicubic: float, back_projected: float) -> float:
    """Bar at the larger of two figures."""
    return max(bicubic, back_projected)


def spoken(tissue: str) -> str:
    """Name of a tissue within a sentence.

    >>> spoken("lung"), spoken("contrast_medium")
    ('the lung', 'contrast medium')
    """
    return {"lung": "the lung", "body": "the body"}.get(tissue, tissue.replace("_", " "))


def _uniform() -> list[Measure]:
    places = [(tissue, spoken(tissue)) for tissue in STEPS_HU] + [("streaks", "uniform tissue under streaks")]
    amplified = "noise in {place} is amplified {{value:.2f}} times"
    moved = "the mean of {place} is moved by {{value:.1f}} HU"
    noise = [
        Measure(
            f"noise_{name}",
            f"noise out / in, {place}",
            amplified.format(place=place),
            "at most",
            constant(1.0),
            "worst",
        )
        for name, place in places
    ]
    shifts = [
        Measure(
            f"shift_{name}",
            f"shift of the mean HU, {place}",
            moved.format(place=place),
            "at most",
            constant(1.0),
            "worst",
            2,
        )
        for name, place in places
    ]
    wisps = [
        Measure(name, f"wisps, {what}", f"{what} is drawn as structure: the largest deviations are {{value:.2f}} times those of noise", "at most", of_bicubic(1.1, 1.25), "worst", 2)
        for name, what in (("wisps", "noise"), ("wisps_streaks", "noise with a direction"))
    ]  # fmt: skip
    return noise + shifts + wisps


def _details() -> list[Measure]:
    return [
        Measure("contrast_kept", "contrast of 20 HU discs kept", "low contrast is flattened: {value:.0%} of 20 HU is left where bicubic keeps {bicubic:.0%}", "at least", of_bicubic(0.95)),
        Measure("detectability", "detectability d' of 20 HU discs", "lesions of 20 HU are harder to see: d' {value:.1f} where bicubic has {bicubic:.1f}", "at least", of_bicubic(1.0), "geometric", 2),
        Measure("vessel_error", "error of vessels' HU", "small vessels lose {value:.0%} of their contrast medium on average", "at most", of_bicubic(0.6)),
        Measure("soft_tissue_error", "error in soft tissue, phantom, HU", "soft tissue is off by {value:.1f} HU on average (bicubic {bicubic:.1f})", "at most", of_the_smaller(0.8), digits=2),
        Measure("bone_texture", "bone texture, correlation with the truth", "the texture of spongy bone is not what it was: correlation {value:.2f} where {bar:.2f} comes for nothing", "at least", of_the_larger),
        Measure("lung_error", "error in the lung, phantom, HU", "vessels of the lung are off by {value:.0f} HU on average (bicubic {bicubic:.0f})", "at most", of_the_smaller(0.85), digits=1),
    ]  # fmt: skip


def _resolution() -> list[Measure]:
    edges = [
        Measure("mtf50_source", "edge response MTF50 of the source itself", "", "shown"),
        Measure("mtf10_source", "edge response MTF10 of the source itself", "", "shown"),
        Measure("mtf50", "edge response MTF50, cycles a source pixel", "edges are blunter than they should be: MTF50 {value:.2f} (bicubic {bicubic:.2f})", "at least", of_bicubic(1.1)),
        Measure("mtf10", "edge response MTF10, cycles a source pixel", "fine detail at edges is lost: MTF10 {value:.2f} (bicubic {bicubic:.2f})", "at least", of_bicubic(1.1)),
        Measure("overshoot", "overshoot at edges, share of the step", "edges have false rims of {value:.0%} of their step", "at most", of_bicubic(1.0, 0.08), "worst"),
        Measure("noise_frequency", "mean frequency of the noise, out / in", "", "shown"),
    ]  # fmt: skip
    pairs = [
        Measure(line_pair_measure(number), f"modulation of {number:g} line pairs a source pixel", f"line pairs of {number:g} a source pixel keep {{value:.0%}} of their modulation (bicubic {{bicubic:.0%}})", "at least", of_bicubic(1.0))
        for number in LINE_PAIRS
    ]  # fmt: skip
    return edges + pairs


def _patients() -> list[Measure]:
    spoken_ways = {"area": "under an area mean", "spread": "with a scanner's point spread", "noisy": "with point spread and noise"}  # fmt: skip
    errors: dict[str, Bar] = {
        "area": lambda b, p: 0.95 * p,
        "spread": lambda b, p: 0.9 * p,
        "noisy": of_the_smaller(0.9),
    }
    resolved = {"area": 1.48, "spread": 1.4, "noisy": 1.33}
    ways = [
        measure
        for way in WAYS
        for measure in (
            Measure(f"rmse_{way}", f"patients {spoken_ways[way]}: RMSE HU", f"patients {spoken_ways[way]}: the error is {{value:.1f}} HU, {{bar:.1f}} would be worth a network (bicubic {{bicubic:.1f}})", "at most", errors[way], digits=1),
            Measure(f"resolution_{way}", f"patients {spoken_ways[way]}: resolution FRC50", f"patients {spoken_ways[way]}: what is seen agrees with the truth up to {{value:.3f}} cycles a pixel only (bicubic {{bicubic:.3f}}, bar {{bar:.3f}})", "at least", of_bicubic(resolved[way])),
        )
    ]  # fmt: skip
    tissues = [
        measure
        for name in ("body", *(tissue.name for tissue in TISSUES))
        for measure in (
            Measure(f"rmse_{name}", f"patients: RMSE HU in {spoken(name)}", f"the error in {spoken(name)} is {{value:.1f}} HU, no better than bicubic's {{bicubic:.1f}}", "at most", of_bicubic(1.0), digits=1),
            Measure(f"bias_{name}", f"patients: bias HU in {spoken(name)}", f"{spoken(name)} is {{value:+.1f}} HU off on average (bicubic {{bicubic:+.1f}})", "at most", of_bicubic(1.0, 1.0), digits=1, magnitude=True),
        )
    ]  # fmt: skip
    return ways + tissues


MEASURES: tuple[Measure, ...] = (*_uniform(), *_details(), *_resolution(), *_patients())
"""All of them, in the order of tables."""
