"""Measure border errors of slices of any size, against those inside a larger slice.

Usage: python -m benchmarks.border_fuzz [--draws 24] [--largest 300] [--model clinical] [--seed 0] [--threads 1] [--out border.json]

Every draw takes a procedural slice whose structures run across its borders, a size from 1 up, a scale, a side of tiles, a
fusion, and an agreement with the source (the model's, or none: what the networks answer). It is super-resolved by itself
and within a larger slice; both are averaged back to source pixels. Told are the mean absolute errors of the two outermost
source pixels along each border, by itself, of the same pixels within the larger slice, and of the slice's own inside. A
border is wrong if its error is above 1.25 times both of the others by more than 5 HU: networks that normalise over an image
answer all of it otherwise when there is more around it, and the inside shows other content than a border.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.timing import arguments, tell
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.inference.names import ConsistencyName
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.tiling import OVERLAP
from qdm_med.inference.upscaler import Upscaler, load_upscaler
from qdm_med.keys import keyed
from qdm_med.resample import block_mean
from qdm_med.volume import CtSlice, FloatArray

AROUND = 48
"""Source pixels of the larger slice beyond every border: three windows of 16."""
DEPTH = 2
"""Outermost source pixels that are a border."""
MOST, SLACK_HU = 1.25, 5.0
"""Ratio of the errors that is allowed, and HU beyond it: errors of one HU differ by chance."""


@dataclass(frozen=True)
class Drawn:
    """One case.

    Attributes:
        rows: Rows of the slice, in source pixels.
        columns: Columns.
        options: How it is super-resolved.
        number: Key of its content.
    """

    rows: int
    columns: int
    options: UpscaleOptions
    number: int


def drawn(count: int, largest: int, seed: int) -> Iterator[Drawn]:
    """Draw cases; small sizes are as frequent as large ones, decade by decade."""
    for number in range(count):
        rng = keyed(str(seed), "border fuzz", str(number))
        scale = int(rng.choice([4, 8]))
        rows, columns = (int(np.exp(rng.uniform(0, np.log(largest + 1)))) for _ in range(2))
        fusion = "halo" if rng.random() < 0.5 else "gaussian"
        side = int(rng.integers(2 * OVERLAP, 128 if scale == 4 else 64))
        step = 64 // scale  # halo tiles are whole windows
        tile = max(2 * OVERLAP, side // step * step) if fusion == "halo" else side
        consistency: ConsistencyName | None = "off" if rng.random() < 0.5 else None
        yield Drawn(rows, columns, UpscaleOptions(scale, fusion=fusion, tile=tile, consistency=consistency), number)


def errors(model: Upscaler, hu: FloatArray, crop: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    """Absolute errors of source pixels, of a crop by itself and of the same pixels within the whole slice."""
    alone, within = (block_mean(_upscaled(model, one), model.scale) for one in (hu[crop], hu))
    return np.abs(alone - hu[crop]), np.abs(within[crop] - hu[crop])


def borders(alone: FloatArray, within: FloatArray) -> dict[str, tuple[float, float, float]]:
    """Mean errors along each border, alone and within, and inside the slice; the last is 0 where there is no inside."""
    inside = alone[DEPTH:-DEPTH, DEPTH:-DEPTH]
    own = float(inside.mean()) if inside.size else 0.0
    first, last = slice(None, DEPTH), slice(-DEPTH, None)
    places = {"top": (first,), "bottom": (last,), "left": (slice(None), first), "right": (slice(None), last)}
    return {name: (float(alone[place].mean()), float(within[place].mean()), own) for name, place in places.items()}


def is_wrong(alone: float, within: float, inside: float) -> bool:
    """Whether a border is worse by more than is allowed."""
    return alone > MOST * max(within, inside) + SLACK_HU


def scene(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """A procedural slice as a scanner shows it: a little blurred, with noise of 10 HU."""
    side = max(rows, columns)
    hu = gaussian_filter(synthetic_slice(SyntheticConfig(), side, 1, rng), 0.6) + rng.normal(0.0, 10.0, (side, side))
    return np.asarray(hu[:rows, :columns], dtype=np.float32)


def _upscaled(model: Upscaler, hu: FloatArray) -> FloatArray:
    return model.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "border").hu


def main() -> None:
    """Draw, measure, print, write."""
    given = arguments(__doc__, draws=24, largest=300, model="clinical", seed=0)
    told, wrong, worst = {}, 0, 0.0
    for case in drawn(given.draws, given.largest, given.seed):
        model = load_upscaler(Path(given.model), case.options, device="cpu")
        hu = scene(case.rows + 2 * AROUND, case.columns + 2 * AROUND, keyed(str(given.seed), "scene", str(case.number)))
        inside = slice(AROUND, AROUND + case.rows), slice(AROUND, AROUND + case.columns)
        found = borders(*errors(model, hu, inside))
        options = case.options
        name = f"{case.rows}x{case.columns} x{options.scale} {options.fusion} {options.tile} {options.consistency or 'default'}"
        told[f"{case.number}: {name}"] = {
            f"{border} {where}": error
            for border, three in found.items()
            for where, error in zip(("alone", "within", "inside"), three, strict=True)
        }
        wrong += sum(is_wrong(*three) for three in found.values())
        worst = max(worst, *(alone / (max(others) + SLACK_HU) for alone, *others in found.values()))
    told["all"] = {"draws": given.draws, "borders that are wrong": wrong, "largest ratio with 5 HU more": worst}
    tell(told, given.out)


if __name__ == "__main__":
    main()
