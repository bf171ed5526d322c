"""Perception-distortion curve: every method's error against its likeness to CT, at one or several scales.

No method is best in both (Blau and Michaeli, CVPR 2018): steps, averaged samples and leaves move a sampler along its curve,
and a method is judged by where its curve lies, not by one of its points.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from qdm_med.evaluation.receipt import BASELINE
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.plots import new_figure
from qdm_med.evaluation.tables.statistics import Summary, summarise
from qdm_med.evaluation.tables.table import Table


@dataclass(frozen=True)
class CurvePoint:
    """One method at one scale.

    Attributes:
        method: Name of the method.
        scale: High-resolution pixels a low-resolution pixel.
        psnr_db: PSNR in the network's range, mean over patients, with its interval.
        ssim: SSIM in the network's range.
        perceptual: LPIPS, its column's name in ``metric``.
        seconds: Wall time a slice.
    """

    method: str
    scale: int
    psnr_db: Summary
    ssim: Summary
    perceptual: Summary
    seconds: float

    def relative_to(self, points: Sequence[CurvePoint]) -> float:
        """LPIPS in units of bicubic's at the same scale; not a number where bicubic was not run."""
        base = [one for one in points if one.method == BASELINE and one.scale == self.scale]
        return self.perceptual.mean / base[0].perceptual.mean if base else math.nan


def curve_points(rows: Sequence[SliceScore]) -> list[CurvePoint]:
    """Points of every method at every scale, in the order of the rows; none without an LPIPS column."""
    found = {(one.method, one.scale, one.metric): one for one in summarise(rows)}
    columns = [metric for _, _, metric in found if metric.startswith("lpips_")]
    if not columns:
        return []
    return [
        CurvePoint(
            method,
            scale,
            found[method, scale, "psnr_db"],
            found[method, scale, "ssim"],
            found[method, scale, columns[0]],
            float(np.mean([row.seconds for row in rows if (row.method, row.scale) == (method, scale)])),
        )
        for method, scale in dict.fromkeys((row.method, row.scale) for row in rows)
    ]


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """Lay out a row a method: PSNR, SSIM, LPIPS and seconds a slice for each scale."""
    scales = sorted({point.scale for point in points})
    column = points[0].perceptual.metric if points else "lpips"
    head = ["method"]
    for scale in scales:
        head += [f"x{scale} PSNR dB", "SSIM", column, f"of {BASELINE}'s", "s a slice"]
    at = {(point.method, point.scale): point for point in points}
    body = []
    for method in dict.fromkeys(point.method for point in points):
        cells = [method]
        for scale in scales:
            cells += _cells(at.get((method, scale)), points)
        body.append(tuple(cells))
    return Table("Perception and distortion, means over patients (95 %)", tuple(head), tuple(body))


def _cells(point: CurvePoint | None, points: Sequence[CurvePoint]) -> list[str]:
    if point is None:
        return [""] * 5
    return [
        _with_interval(point.psnr_db, 2),
        _with_interval(point.ssim, 4),
        _with_interval(point.perceptual, 4),
        f"{point.relative_to(points):.2f}",
        f"{point.seconds:.2f}",
    ]


def _with_interval(summary: Summary, digits: int) -> str:
    if summary.interval is None:
        return f"{summary.mean:.{digits}f}"
    low, high = summary.interval
    return f"{summary.mean:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def draw_curve(points: Sequence[CurvePoint], target: BinaryIO) -> None:
    """Draw LPIPS against PSNR as PNG: a panel a scale, a numbered point a method.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    scales = sorted({point.scale for point in points})
    methods = list(dict.fromkeys(point.method for point in points))
    figure = new_figure(4.6 * len(scales) + 3.2, 4.4)
    axes = figure.subplots(1, len(scales), squeeze=False)[0]
    for axis, scale in zip(axes, scales, strict=True):
        for point in points:
            if point.scale == scale:
                number = methods.index(point.method)
                place = (point.psnr_db.mean, point.perceptual.mean)
                axis.plot(*place, "o", color=f"C{number % 10}", label=f"{number + 1}: {point.method}")
                axis.annotate(str(number + 1), place, textcoords="offset points", xytext=(4, 4), fontsize=8)
        axis.set(title=f"x{scale}", xlabel="PSNR, dB (right is less error)", ylabel=points[0].perceptual.metric)
        axis.grid(alpha=0.3)
    handles = {label: handle for axis in axes for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
    named = sorted(handles, key=lambda label: int(label.split(":")[0]))
    figure.legend([handles[name] for name in named], named, loc="outside right upper", fontsize=8)
    figure.savefig(target, format="png", dpi=120)
