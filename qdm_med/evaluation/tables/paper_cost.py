"""Cost of the paper's networks on the masks of a threshold ablation: counted, not trained."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from qdm_med.evaluation.measures.cost import autoencoder_cost, step_cost
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.table import Table
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING, PAPER_SIZE
from qdm_med.models.qdm.config import PRESETS

PAPER_STEPS = 15
PAPER_NETWORKS = ("s", "b", "l")


class StepLaw(NamedTuple):
    """Multiply-accumulates of a dense-window step: ``upstream`` where no window is active, else the sum of the others.

    Tokens meet within their window only, and behind the last attention only active leaves go on: a step costs so much in
    itself, so much a window, and so much a leaf.

    Attributes:
        upstream: Without an active window.
        fixed: Whatever is active.
        a_window: For each active window.
        a_leaf: For each active leaf.
    """

    upstream: float
    fixed: float
    a_window: float
    a_leaf: float

    def macs(self, windows: float, leaves: float) -> float:
        """Cost of a step with so many active windows and leaves."""
        return self.fixed + self.a_window * windows + self.a_leaf * leaves if windows else self.upstream


@lru_cache
def step_law(preset: str, side: int) -> StepLaw:
    """Count a network of the paper on four masks, from which every other follows.

    Args:
        preset: ``"s"``, ``"b"`` or ``"l"``.
        side: Leaves along each side of the latent, a multiple of the window.
    """
    config = PRESETS[preset]
    masks = torch.zeros(4, 1, side, side, dtype=torch.bool)
    masks[1, :, :: config.window, :: config.window] = True  # a leaf in each window
    masks[2] = True
    masks[3, :, : config.window, : config.window] = True  # one whole window
    none, sparse, full, one = (step_cost(config, mask).macs for mask in masks)
    windows, leaves = (side // config.window) ** 2, side**2
    a_leaf = (full - sparse) / (leaves - windows)
    a_window = (full - one - a_leaf * (leaves - config.window**2)) / max(1, windows - 1)
    fixed = full - a_window * windows - a_leaf * leaves
    return StepLaw(none, fixed, a_window, a_leaf)


def paper_cost_table(rows: Sequence[SliceScore]) -> Table | None:
    """Lay out the cost of QDM-S, B and L with the paper's autoencoder and 15 steps, on the masks of each threshold.

    Args:
        rows: Of a sweep: their costs tell windows and leaves of every slice.

    Returns:
        ``None`` where slices are not square, or were cut into overlapping tiles.
    """
    counted = [row for row in rows if {"threshold", "windows_in_all"} <= row.cost.keys()]
    sizes = {row.cost["windows_in_all"] for row in counted}
    across = math.isqrt(round(next(iter(sizes)))) if len(sizes) == 1 else 0
    if not across or across**2 != next(iter(sizes)):
        return None
    config = PRESETS["l"]
    side = across * config.window
    autoencoder = autoencoder_cost(PAPER_SIZE, side * config.downstream_patch * DOWNSAMPLING)
    body = []
    for threshold in sorted({row.cost["threshold"] for row in counted}):
        own = [row for row in counted if row.cost["threshold"] == threshold]
        cells = [f"{threshold:g}", _mean(own, "leaf_density", ".2%"), f"{_mean(own, 'windows', '.1f')} of {across**2}"]
        for preset in PAPER_NETWORKS:
            law = step_law(preset, side)
            steps = [law.macs(row.cost["windows"], row.cost["leaf_density"] * side**2) for row in own]
            diffusion = PAPER_STEPS * float(np.mean(steps))
            cells += [f"{diffusion / 1e12:.2f} T", f"{(diffusion + autoencoder) / 1e12:.2f} T"]
        body.append(tuple(cells))
    names = [title for preset in PAPER_NETWORKS for title in (f"QDM-{preset.upper()}", "with autoencoder")]
    title = f"Counted, not trained: the paper's networks and autoencoder on the same masks, {PAPER_STEPS} steps, MAC a slice"
    return Table(title, ("threshold s", "active leaves", "active windows", *names), tuple(body))


def _mean(rows: Sequence[SliceScore], key: str, style: str) -> str:
    return format(float(np.mean([row.cost[key] for row in rows])), style)
