"""The bound that is told of a run's memory, against the operating system's count."""

from __future__ import annotations

import subprocess
import sys

import pytest

RUN = """
import sys
import numpy as np, torch
from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import load_upscaler
from qdm_med.volume import CtSlice
side, scale, tile, samples = map(int, sys.argv[1:])
uncertainty = samples > 1
upscaler = load_upscaler(options=UpscaleOptions(scale=scale, steps=1, tile=tile, samples=samples), device="cpu")
hu = np.full((side, side), -1000.0, np.float32)
busy = min(side, upscaler.tiling.tile)
hu[:busy, :busy] = np.random.default_rng(0).normal(0, 200, (busy, busy))
upscaler.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "series", uncertainty=uncertainty)
# Not ru_maxrss: that holds what the process that started this one was, until it became this program.
print(next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024)
print(peak_bytes(upscaler.card, hu.shape, upscaler.tiling, scale, uncertainty=uncertainty))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is on Linux only")
@pytest.mark.parametrize(
    ("side", "scale", "tile", "samples"),
    [(64, 8, 64, 1), (128, 4, 128, 1), (320, 8, 64, 1), (320, 8, 64, 2), (288, 8, 272, 1)],
)
def test_a_run_stays_below_the_bound_and_the_bound_is_no_fantasy(side, scale, tile, samples):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *map(str, (side, scale, tile, samples))], check=True, capture_output=True, text=True
    )
    measured, bound = map(int, done.stdout.split())
    assert measured <= bound
    assert measured > 0.25 * bound  # builds of PyTorch differ in size
