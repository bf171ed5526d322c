"""Images a second that each family of degradations makes, parameters drawn anew for every image.

Usage: python benchmarks/degradation_speed.py [--side 512] [--batch 8] [--repeats 10] [--threads 1] [--out speed.json]

The images are textured phantoms: blur, resize, noise, JPEG and transforms cost the same whatever is shown.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import numpy as np
import torch
from timing import alternating, arguments, tell
from torch import Tensor

from qdm_med.data.degradation.degrade import BENCHMARK, SCANNER, TRAINING, DegradationConfig, degrade

FAMILIES: dict[str, DegradationConfig] = {"training": TRAINING, "benchmark": BENCHMARK, "scanner": SCANNER}


def work(high_res: Tensor, config: DegradationConfig, scale: int) -> Callable[[], Tensor]:
    """Degrade the batch once, with parameters drawn from a sequence of its own."""
    rng = np.random.default_rng(scale)
    return lambda: degrade(high_res, [config.draw(scale, rng) for _ in range(len(high_res))])


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, side=512, batch=8, repeats=10)
    shape = (given.batch, 1, given.side, given.side)
    high_res = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    ways = {f"{name}, x{scale}": work(high_res, config, scale) for name, config in FAMILIES.items() for scale in (4, 8)}
    times = alternating(ways, given.repeats)
    told = {
        name: {
            "images a second": given.batch / statistics.median(taken),
            "milliseconds an image": 1000 * statistics.median(taken) / given.batch,
        }
        for name, taken in times.items()
    }
    tell(told, given.out)


if __name__ == "__main__":
    main()
