"""Figures of a report, drawn by matplotlib if it is installed."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from qdm_med.evaluation.measures.agreement import limits_of_agreement
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.evaluation.report.pictures import INPUT, Picture, PictureCase, as_data_uri
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.curve import curve_points, draw_curve
from qdm_med.evaluation.tables.sweep import SweepPoint, draw_sweep


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        uri: Data URI of its PNG.
        caption: Text below the figure.
    """

    uri: str
    caption: str


def draw_figures(
    rows: Sequence[SliceScore],
    cases: Sequence[PictureCase],
    sweep: Sequence[SweepPoint] = (),
    *,
    sheet: bytes | None = None,
) -> list[Drawing]:
    """Draw the figures: the sheet's PNG, if there is one, and, where matplotlib is installed, those of the rows."""
    sheets = [Drawing(as_data_uri(sheet), "All methods side by side; boxes are enlarged below.")] if sheet else []
    return sheets + _plotted(rows, cases, sweep)


def _plotted(rows: Sequence[SliceScore], cases: Sequence[PictureCase], sweep: Sequence[SweepPoint]) -> list[Drawing]:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    new: Callable[[float, float], Any] = lambda width, height: Figure(  # noqa: E731
        figsize=(width, height), layout="constrained"
    )
    figures = [
        Drawing(_draw_curves(new(10, 4), cases), "Edge response and noise power, means over the slices shown above."),
        Drawing(
            _draw_agreement(new(10, 4.5), rows),
            "Bland-Altman: HU of the method minus the truth against their mean, a point a slice and tissue; "
            "lines: bias and 95 % limits of agreement over all of a method's points.",
        ),
    ]
    if places := curve_points(rows):
        figures.append(Drawing(_drawn(draw_curve, places), "Likeness to CT (LPIPS, low is best) against error (PSNR)."))
    if sweep:
        figures.append(Drawing(_drawn(draw_sweep, sweep), "Quality and time against cost, a point a threshold."))
    return figures


def _drawn(draw: Callable[[Sequence[Any], BinaryIO], None], points: Sequence[Any]) -> str:
    buffer = io.BytesIO()
    draw(points, buffer)
    return as_data_uri(buffer.getvalue())


# The trend is subtracted before the spectrum is taken: frequency 0 is empty and left out.
def _draw_curves(figure: Any, cases: Sequence[PictureCase]) -> str:
    edges, noise = figure.subplots(1, 2)
    names = [picture.name for picture in cases[0].pictures if picture.name != INPUT] if cases else []
    for name in names:
        own = [picture for case in cases for picture in case.pictures if picture.name == name]
        _mean_curve(edges, name, own, lambda one: one.edges and (one.edges.frequency, one.edges.mtf))
        _mean_curve(noise, name, own, lambda one: one.noise and (one.noise.frequency[1:], one.noise.power[1:]))
    edges.set(xlabel="cycles a pixel", ylabel="modulation transfer", ylim=(0, 1.2))
    noise.set(xlabel="cycles a pixel", ylabel="noise power, HU² pixel²", yscale="log")
    for axis in (edges, noise):
        axis.grid(alpha=0.3)
    _add_legend(edges)
    return _finished(figure)


def _mean_curve(axis: Any, name: str, pictures: Sequence[Picture], read: Callable[[Picture], Any]) -> None:
    curves = [curve for picture in pictures if (curve := read(picture))]
    if curves:
        axis.plot(curves[0][0], np.mean([values for _, values in curves], axis=0), label=name)


def _draw_agreement(figure: Any, rows: Sequence[SliceScore]) -> str:
    methods = list(dict.fromkeys(row.method for row in rows))
    axes = figure.subplots(1, len(methods), sharey=True, squeeze=False)[0]
    for axis, name in zip(axes, methods, strict=True):
        own = [row.scores for row in rows if row.method == name]
        points: list[float] = []
        for tissue in TISSUES:
            pairs = [
                (scores[f"truth_{tissue.name}_hu"], scores[f"bias_{tissue.name}_hu"])
                for scores in own
                if math.isfinite(scores.get(f"bias_{tissue.name}_hu", math.nan))
            ]
            if pairs:
                truth, bias = np.array(pairs).T
                axis.plot(truth + bias / 2, bias, ".", label=tissue.name.replace("_", " "))
                points += bias.tolist()
        agreement = limits_of_agreement(points)
        for value, style in ((agreement.bias, "-"), (agreement.low, "--"), (agreement.high, "--")):
            if math.isfinite(value):
                axis.axhline(value, color="0.4", linewidth=0.8, linestyle=style)
        axis.set_title(name, fontsize=9)
        axis.set_xlabel("mean HU")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("method - truth, HU")
    _add_legend(axes[0])
    return _finished(figure)


def _add_legend(axis: Any) -> None:
    """Add a legend, except where slices too small to measure left no curve."""
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8)


def _finished(figure: Any) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return as_data_uri(buffer.getvalue())
