"""Measure how far the default model's answer depends on tiles and on the quadtree, and what each way costs, in one run.

Usage: python benchmarks/clinical_slices.py STORE [--slices 3] [--scales 4,8] [--checkpoint FILE] [--threads 2] [--out slices.json]

Takes slices of the validation split as they are, and alternates: the default, every leaf refined, smaller tiles, and the
paper's fusion. Each is told with its seconds and its difference from the default in HU, root mean square, median over slices.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path

import numpy as np
from timing import against, alternating, arguments, tell

from qdm_med.checkpoints.model import default_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import Upscaler, load_upscaler
from qdm_med.volume import CtSlice, FloatArray


def ways_to_upscale(checkpoint: Path, scale: int) -> dict[str, Upscaler]:
    """Options that are compared; the first is the default."""
    options = {
        "default": {},
        "every leaf": {"threshold": 0.0},
        "tiles of 1152 output pixels": {"tile": 1152 // scale},
        "tiles of 512 output pixels": {"tile": 512 // scale},
        "the paper's fusion": {"fusion": "gaussian"},
    }
    return {
        name: load_upscaler(checkpoint, UpscaleOptions(scale=scale, **each), device="cpu")
        for name, each in options.items()
    }


def measure(ways: dict[str, Upscaler], slices: list[CtSlice]) -> dict[str, dict[str, float]]:
    """Seconds and differences of every way at one scale."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    apart: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, FloatArray] = {}

    def answer(name: str, source: CtSlice) -> None:
        answers[name] = ways[name].upscale_slice(source, "-").hu

    for source in slices:
        for name, taken in alternating({name: partial(answer, name, source) for name in ways}, 1).items():
            times[name] += taken
        for name, hu in answers.items():
            apart[name].append(float(np.sqrt(np.mean(np.square(hu - answers["default"])))))
    told = against("default", times)
    return {name: told[name] | {"HU RMS apart": statistics.median(apart[name])} for name in ways}


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, store=None, slices=3, scales="4,8", checkpoint=str(default_checkpoint("clinical")))
    store = SliceStore.open(given.store)
    val = store.indices("val")
    chosen = val[:: max(1, len(val) // given.slices)][: given.slices]
    images = [np.asarray(store.hu(index), dtype=np.float32) for index in chosen]
    slices = [CtSlice(hu, np.zeros(hu.shape, dtype=bool), 0.0) for hu in images]
    told = {}
    for scale in map(int, given.scales.split(",")):
        found = measure(ways_to_upscale(Path(given.checkpoint), scale), slices)
        told |= {f"x{scale} {name}": figures for name, figures in found.items()}
    tell(told, given.out)


if __name__ == "__main__":
    main()
