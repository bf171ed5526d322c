"""Estimate a run before it starts: work, time, memory and bytes."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np

from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.plan import SlicePlan
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import Volume

SAMPLED = 32
"""Slices that are looked at, evenly spaced."""


TIMED_SIDE = 512
"""Output pixels along the side of the tile that is timed, at most: a larger one would take seconds and tell no more."""


@dataclass(frozen=True)
class Estimate:
    """Estimate of a run.

    Attributes:
        slices: Slices of the series.
        shape: Rows and columns of the source.
        scale: Magnification.
        empty_slices: Slices that need no network, extrapolated from those that were looked at.
        active_leaves: Share of active leaves, likewise.
        windows: Downstream windows that will be computed, likewise.
        windows_in_all: Downstream windows that a dense network would compute.
        seconds: Wall time on this machine, from one tile that was computed for it.
        memory_bytes: Upper bound of the peak memory.
        output_bytes: Pixels of the output, uncompressed.
        matrix: Rows and columns to which magnified slices will be averaged; ``None``: they will not.
    """

    slices: int
    shape: tuple[int, int]
    scale: int
    empty_slices: int
    active_leaves: float
    windows: int
    windows_in_all: int
    seconds: float
    memory_bytes: int
    output_bytes: int
    matrix: tuple[int, int] | None = None


def estimate_volume(
    volume: Volume, upscaler: Upscaler, *, uncertainty: bool = False, matrix: tuple[int, int] | None = None
) -> Estimate:
    """Look at a volume and time one tile of it; nothing is written.

    Args:
        volume: The source.
        upscaler: Networks and options.
        uncertainty: Whether the standard deviation of the samples is to be written, too.
        matrix: Rows and columns to which magnified slices are to be averaged; ``None``: they are not.

    Raises:
        ConfigError: If it is, and there are fewer than two samples.
    """
    if uncertainty:
        upscaler.require_samples()
    count, rows, columns = volume.geometry.shape
    looked_at = np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(int)).tolist()
    started = time.perf_counter()
    plans = [upscaler.plan(volume.slices[index], volume.provenance.series_key) for index in looked_at]
    planning = (time.perf_counter() - started) / len(plans)
    windows = float(np.mean([plan.windows for plan in plans]))
    pixels = count * int(np.prod(matrix or (rows * upscaler.scale, columns * upscaler.scale)))
    return Estimate(
        slices=count,
        shape=(rows, columns),
        scale=upscaler.scale,
        empty_slices=round(count * float(np.mean([plan.windows == 0 for plan in plans]))),
        active_leaves=float(np.mean([plan.leaves.mean() for plan in plans])),
        windows=round(count * windows),
        windows_in_all=count * plans[0].windows_in_all,
        seconds=count * (planning + _seconds(plans, _small_tiles(volume, looked_at, plans, upscaler), upscaler)),
        memory_bytes=peak_bytes(
            upscaler.card, (rows, columns), upscaler.tiling, upscaler.scale, uncertainty=uncertainty
        ),
        output_bytes=(6 if uncertainty else 2) * pixels,  # int16, and float32 for the uncertainty
        matrix=matrix,
    )


def _small_tiles(volume: Volume, looked_at: list[int], plans: list[SlicePlan], upscaler: Upscaler) -> SlicePlan:
    """Plan the slice of the median work anew, in tiles that are small enough to be timed."""
    by_work = sorted(range(len(plans)), key=lambda number: plans[number].windows)
    chosen = volume.slices[looked_at[by_work[len(by_work) // 2]]]
    small = upscaler.tiling.of_side(min(upscaler.tiling.tile, max(upscaler.tiling.least, TIMED_SIDE // upscaler.scale)))
    return replace(upscaler.planner, tiling=small).plan(chosen, volume.provenance.series_key)


def _seconds(plans: list[SlicePlan], small: SlicePlan, upscaler: Upscaler) -> float:
    """Mean seconds of a slice: a fixed part, and a part for its windows, timed on the small tile with the median work."""
    tiles = sorted(small.active_tiles, key=lambda tile: tile.windows)
    nothing = _timed(replace(small, tiles=()), upscaler)
    if not tiles:
        return nothing
    tile = tiles[len(tiles) // 2]
    a_window = max(0.0, _timed(replace(small, box=tile.region, tiles=(tile,)), upscaler) - nothing) / tile.windows
    return nothing + a_window * float(np.mean([plan.windows for plan in plans]))


def _timed(plan: SlicePlan, upscaler: Upscaler) -> float:
    upscaler.compute([plan])  # the first call of a process is slower
    started = time.perf_counter()
    upscaler.compute([plan])
    return time.perf_counter() - started
