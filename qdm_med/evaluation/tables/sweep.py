"""Threshold ablation: cost and quality by quadtree threshold, as in the paper's Table 8."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.plots import new_figure
from qdm_med.evaluation.tables.statistics import summarise
from qdm_med.evaluation.tables.table import Table

_KNOWN = ("threshold", "leaf_density", "windows", "windows_in_all", "macs", "macs_diffusion")

SWEEP_THRESHOLDS = (0.0, 0.03, 0.06, 0.09, 0.15, 0.3)


@dataclass(frozen=True)
class SweepPoint:
    """Means at one threshold: cost over slices, quality over patients.

    Attributes:
        threshold: Quadtree threshold s.
        steps: Sampling steps.
        leaf_density: Active leaves among all, 0 to 1.
        windows: Active windows a slice.
        windows_in_all: Windows a slice.
        macs: Multiply-accumulates a slice, autoencoder included.
        macs_diffusion: Of them those of the diffusion alone, as the paper counts.
        seconds: Wall time a slice.
        quality: Column name -> mean over patients.
    """

    threshold: float
    steps: int
    leaf_density: float
    windows: float
    windows_in_all: float
    macs: float
    macs_diffusion: float
    seconds: float
    quality: dict[str, float]


def sweep_points(rows: Sequence[SliceScore]) -> list[SweepPoint]:
    """Average the methods that know their threshold and were counted, by steps and threshold."""
    points = []
    for name in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == name]
        if not all({"threshold", "macs_diffusion"} <= row.cost.keys() for row in own):
            continue
        cost = {key: float(np.mean([row.cost[key] for row in own])) for key in own[0].cost}
        quality = {one.metric: one.mean for one in summarise(own)}
        seconds = float(np.mean([row.seconds for row in own]))
        known = {key: cost[key] for key in _KNOWN}
        points.append(SweepPoint(steps=round(cost["steps"]), seconds=seconds, quality=quality, **known))
    return sorted(points, key=lambda point: (point.steps, point.threshold))


_COST = ("MAC of the diffusion", "with autoencoder")


def sweep_table(points: Sequence[SweepPoint]) -> Table:
    """Lay out leaf density, windows, cost and quality by threshold."""
    names: list[str] = [name for name in ("psnr_db", "ssim", "mae_hu") if points and name in points[0].quality]
    names += [name for name in (points[0].quality if points else ()) if name.startswith("lpips_")]
    head = ("threshold s", "steps", "active leaves", "active windows", *_COST, "s a slice", *names)
    body = tuple(
        (
            f"{point.threshold:g}",
            str(point.steps),
            f"{point.leaf_density:.2%}",
            f"{point.windows:.1f} of {point.windows_in_all:.0f}",
            f"{point.macs_diffusion / 1e9:.2f} G",
            f"{point.macs / 1e9:.2f} G",
            f"{point.seconds:.2f}",
            *(f"{point.quality[name]:.4g}" for name in names),
        )
        for point in points
    )
    return Table(
        "Threshold ablation, as the paper's Table 8 (multiply-accumulates are counted operator by operator)", head, body
    )


def draw_sweep(points: Sequence[SweepPoint], target: Path | BinaryIO) -> None:
    """Draw quality and time against cost as PNG, a point a threshold.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    perceptual = next((name for name in points[0].quality if name.startswith("lpips_")), "ssim")
    figure = new_figure(11, 3.4)
    axes = figure.subplots(1, 3)
    for axis, name in zip(axes, ("psnr_db", perceptual, "seconds"), strict=True):
        for steps in sorted({point.steps for point in points}):
            some = [point for point in points if point.steps == steps]
            values = [point.seconds if name == "seconds" else point.quality.get(name, math.nan) for point in some]
            cost = [point.macs / 1e9 for point in some]
            axis.plot(cost, values, "o-", label=f"{steps} steps")
            for point, x, y in zip(some, cost, values, strict=True):
                axis.annotate(f"{point.threshold:g}", (x, y), textcoords="offset points", xytext=(4, 4), fontsize=8)
        axis.set_xlabel("GMAC a slice")
        axis.set_ylabel("s a slice" if name == "seconds" else name)
        axis.grid(alpha=0.3)
    axes[0].legend(title="labels: threshold s", fontsize=8)
    figure.savefig(target, format="png", dpi=120)
