"""Measure border errors of slices of any size, against those inside a larger slice.

Usage: python -m benchmarks.border_fuzz [--draws 24] [--largest 300] [--model clinical] [--seed 0] [--threads 1] [--out border.json]

Every draw takes a procedural slice whose structures run across its borders, a size from 1 up, a scale, a side of tiles, a
fusion, and an agreement with the source (the model's, or none: what the networks answer). It is super-resolved by itself
and within a larger slice; both are averaged back to source pixels. Told are the mean absolute errors of the two outermost
source pixels along each border, by itself, of the same pixels within the larger slice, and of the slice's own inside. A
border is suspect if its error is above 1.25 times both of the others by more than 5 HU: networks that normalise over an image
answer all of it otherwise when there is more around it, and the inside shows other content than a border.

A suspect is measured once more, where the slice goes on at the other three sides and this border lies on whole windows in a single
tile: there nothing is reflected, cut or fused, and what is wrong is what the networks answer at any border, which they see from one
side only. A suspect that is above 1.25 times that, too, is wrong: the fault is in what is done around the networks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.timing import arguments, tell
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.inference.names import ConsistencyName, FusionName
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.tiling import HALO_OVERLAP, Tiling
from qdm_med.inference.upscaler import Upscaler, load_upscaler
from qdm_med.keys import keyed
from qdm_med.resample import block_mean
from qdm_med.volume import CtSlice, FloatArray

AROUND = 48
"""Source pixels of the larger slice beyond every border: three windows of 16."""
DEPTH = 2
"""Outermost source pixels that are a border."""
STRIPS = {
    "top": (slice(None, DEPTH), slice(None)),
    "bottom": (slice(-DEPTH, None), slice(None)),
    "left": (slice(None), slice(None, DEPTH)),
    "right": (slice(None), slice(-DEPTH, None)),
}
"""Pixels of each border."""
WHOLE = 16
"""Source pixels of which the sides of windows are parts, at either scale."""
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


def drawn(count: int, largest: int, seed: int, agreement: ConsistencyName = "spread") -> Iterator[Drawn]:
    """Draw cases, half of them with an agreement; small sizes are as frequent as large ones, decade by decade."""
    for number in range(count):
        rng = keyed(str(seed), "border fuzz", str(number))
        scale = int(rng.choice([4, 8]))
        rows, columns = (int(np.exp(rng.uniform(0, np.log(largest + 1)))) for _ in range(2))
        fusion: FusionName = "halo" if rng.random() < 0.5 else "gaussian"
        side = int(rng.integers(Tiling.least, 128 if scale == 4 else 64))
        step = 64 // scale  # halo tiles are whole windows
        tile = max(2 * HALO_OVERLAP, side // step * step) if fusion == "halo" else side
        consistency: ConsistencyName = "off" if rng.random() < 0.5 else agreement
        yield Drawn(rows, columns, UpscaleOptions(scale, fusion=fusion, tile=tile, consistency=consistency), number)


Answer = Callable[[FloatArray], FloatArray]
"""HU of a slice that was super-resolved and averaged back to its own pixels."""


def errors(answer: Answer, hu: FloatArray, crop: tuple[slice, slice]) -> tuple[FloatArray, FloatArray]:
    """Absolute errors of source pixels, of a crop by itself and of the same pixels within the whole slice."""
    return np.abs(answer(hu[crop]) - hu[crop]), np.abs(answer(hu)[crop] - hu[crop])


def borders(alone: FloatArray, within: FloatArray) -> dict[str, tuple[float, float, float]]:
    """Mean errors along each border, alone and within, and inside the slice; the last is 0 where there is no inside."""
    inside = alone[DEPTH:-DEPTH, DEPTH:-DEPTH]
    own = float(inside.mean()) if inside.size else 0.0
    return {name: (float(alone[place].mean()), float(within[place].mean()), own) for name, place in STRIPS.items()}


def is_worse(alone: float, *others: float) -> bool:
    """Whether a border is worse than anything else by more than is allowed."""
    return alone > MOST * max(others) + SLACK_HU


def at_any_border(answer: Answer, hu: FloatArray, crop: tuple[slice, slice], border: str) -> float:
    """Mean error along one border of a crop where the slice goes on at the other three, and this one ends whole windows.

    Args:
        answer: Super-resolves in a single tile.
        hu: The larger slice.
        crop: Place of the slice in it.
        border: ``"top"``, ``"bottom"``, ``"left"`` or ``"right"``.
    """
    axis = 0 if border in ("top", "bottom") else 1
    side = crop[axis]
    # Behind its first pixel the slice goes on as it likes; before its last there must be whole windows.
    stays = slice(side.start, None) if border in ("top", "left") else slice(side.stop % WHOLE, side.stop)
    region = (stays, slice(None)) if axis == 0 else (slice(None), stays)
    found = np.abs(answer(hu[region]) - hu[region])
    rows, columns = (
        slice(own.start - (grown.start or 0), own.stop - (grown.start or 0))
        for own, grown in zip(crop, region, strict=True)
    )
    return float(found[rows, columns][STRIPS[border]].mean())


def judged(
    answer: Answer, in_one_tile: Answer, hu: FloatArray, crop: tuple[slice, slice]
) -> dict[str, tuple[float, ...]]:
    """Errors along each border: alone, within, inside, and, of a suspect, what the networks err by at any border.

    Where a slice is too thin to have an inside, each of its borders lies on two others, whose errors add to its own.
    """
    found: dict[str, tuple[float, ...]] = {}
    thin = [side.stop - side.start <= 2 * DEPTH for side in crop]
    for border, three in borders(*errors(answer, hu, crop)).items():
        if not is_worse(*three):
            found[border] = three
            continue
        across = ("left", "right") if border in ("top", "bottom") else ("top", "bottom")
        theirs = (border, *across) if thin[across[0] == "left"] else (border,)
        found[border] = (*three, sum(at_any_border(in_one_tile, hu, crop, one) for one in theirs))
    return found


def scene(rows: int, columns: int, rng: np.random.Generator) -> FloatArray:
    """A procedural slice as a scanner shows it: a little blurred, with noise of 10 HU."""
    side = max(rows, columns)
    hu = gaussian_filter(synthetic_slice(SyntheticConfig(), side, 1, rng), 0.6) + rng.normal(0.0, 10.0, (side, side))
    return np.asarray(hu[:rows, :columns], dtype=np.float32)


def answers(model: Upscaler) -> Answer:
    """What a model answers for a slice, averaged back to its pixels."""

    def answer(hu: FloatArray) -> FloatArray:
        fine = model.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "border").hu
        return block_mean(fine, model.scale)

    return answer


def main() -> None:
    """Draw, measure, print, write."""
    given = arguments(__doc__, draws=24, largest=300, model="clinical", seed=0)
    told, thin, wrong, theirs, worst = {}, 0, 0, 0, 0.0
    agreement: ConsistencyName = "local" if given.model == "benchmark" else "spread"
    for case in drawn(given.draws, given.largest, given.seed, agreement):
        whole = -(-(max(case.rows, case.columns) + 2 * AROUND) // WHOLE) * WHOLE
        of_one_tile = replace(case.options, fusion="gaussian", tile=whole)
        here, in_one_tile = (
            answers(load_upscaler(Path(given.model), options, device="cpu")) for options in (case.options, of_one_tile)
        )
        hu = scene(case.rows + 2 * AROUND, case.columns + 2 * AROUND, keyed(str(given.seed), "scene", str(case.number)))
        inside = slice(AROUND, AROUND + case.rows), slice(AROUND, AROUND + case.columns)
        found = judged(here, in_one_tile, hu, inside)
        options = case.options
        name = f"{case.rows}x{case.columns} x{options.scale} {options.fusion} {options.tile} {options.consistency}"
        told[f"{case.number}: {name}"] = {
            f"{border} {where}": error
            for border, several in found.items()
            for where, error in zip(("alone", "within", "inside", "at any border"), several, strict=False)
        }
        thin += min(case.rows, case.columns) <= 2 * DEPTH
        suspects = [several for several in found.values() if len(several) == 4]
        wrong += sum(is_worse(*several) for several in suspects)
        theirs += sum(not is_worse(*several) for several in suspects)
        worst = max(worst, *(alone / (max(others) + SLACK_HU) for alone, *others in found.values()))
    told["all"] = {
        "draws": given.draws,
        "slices too thin to have an inside": thin,
        "borders that are wrong": wrong,
        "borders where the networks err at any border": theirs,
        "largest ratio with 5 HU more": worst,
    }
    tell(told, given.out)


if __name__ == "__main__":
    main()
