"""Measure whole runs of `qdm-med upscale`: time and memory by number and size of slices, and the part that is not the model.

Usage: python benchmarks/whole_series.py [--scale 4] [--side 128] [--slices 10,20,40,100] [--large 512] [--repeats 3]
           [--threads 2] [--out whole_series.json]

Every run is a process of its own over a series of phantoms (an ellipse of soft tissue with lungs and noise). The lengths
take turns, so that a busy hour of the machine meets all of them, and of the repeats the medians are told: wall time, and
processor time, which other programs disturb less. Through either a line is fitted (start and time a slice, by least
squares of the relative residuals) and its largest relative residual is told. The processor time counts what PyTorch's
threads spend on waiting for each other, so with several of them it is more than the work.

"Not in networks" is the share of a run that is spent on reading, mapping, fusing, agreeing with the source and writing:
of the wall time all that is outside `super_resolve`, of the processor time also what the reading and the writing thread
do beside it. `super_resolve` is encoding, sampling and decoding; drawing the noise is part of sampling, and its share of
the wall time is told as well, for those who would count it elsewhere.

Also told: the peak memory of the longest and of the shortest series, the first slice's time from the start of the process,
and the peak memory of one large slice at x8. Linux only: /proc tells the peak.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from timing import arguments, line, tell

RUN = """
import json, sys, time
started = time.perf_counter()
import torch
torch.set_num_threads(int(sys.argv[4]))
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.inference import networks, upscaler as upscale
from qdm_med.inference.runs import pipeline
from qdm_med.inference.runs.series import upscale_series
spent, first = {}, []
def timed(name, work, clock):
    def measured(*arguments, **options):
        began = clock()
        try:
            return work(*arguments, **options)
        finally:
            spent.setdefault(name, []).append(clock() - began)
    return measured
class Measured(ThreadPoolExecutor):
    def submit(self, work, *arguments):
        return super().submit(timed("beside, cpu", work, time.thread_time), *arguments)
pipeline.ThreadPoolExecutor = Measured
networks.super_resolve = timed("networks", networks.super_resolve, time.perf_counter)
networks.super_resolve = timed("networks, cpu", networks.super_resolve, time.thread_time)
SliceNoise.draw = timed("noise", SliceNoise.draw, time.perf_counter)
def progress(done, total, ct_slice):
    if done == 1:
        first.append(time.perf_counter() - started)
upscaler = upscale.load_upscaler(options=upscale.UpscaleOptions(scale=int(sys.argv[3])), device="cpu")
whole = timed("whole, cpu", timed("main, cpu", upscale_series, time.thread_time), time.process_time)
summary = whole(Path(sys.argv[1]), Path(sys.argv[2]), upscaler, progress=progress)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
total = {name: sum(times) for name, times in spent.items()}
print(json.dumps({"seconds": summary.seconds, "first slice": first[0], "peak": peak, **total}))
"""


def phantom(folder: Path, slices: int, side: int) -> Path:
    """A series of chest-like slices with the header of pydicom's CT slice."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.Rows = dataset.Columns = side
    row, column = np.mgrid[:side, :side] / side - 0.5
    hu = np.where((row / 0.35) ** 2 + (column / 0.45) ** 2 < 1, 40.0, -1000.0)
    hu[(row / 0.2) ** 2 + ((np.abs(column) - 0.2) / 0.14) ** 2 < 1] = -850.0
    noise = np.random.default_rng(0)
    folder.mkdir()
    for index in range(slices):
        noisy = hu + noise.normal(0, 12, hu.shape)
        dataset.PixelData = (noisy - dataset.RescaleIntercept).round().astype(np.int16).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
        dataset.ImagePositionPatient = [-158.0, -179.0, 5.0 * index]
        dataset.save_as(folder / f"{index:04d}.dcm")
    return folder


def run(source: Path, out: Path, scale: int, threads: int) -> dict[str, float]:
    """Run once, in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", RUN, str(source), str(out), str(scale), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def figures(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Medians over the repeats of one length."""
    rows = [
        {
            "seconds": run["seconds"],
            "cpu seconds": run["whole, cpu"],
            "not in networks": 1 - run["networks"] / run["seconds"],
            "not in networks, cpu": (run["main, cpu"] - run["networks, cpu"] + run["beside, cpu"]) / run["whole, cpu"],
            "noise": run["noise"] / run["seconds"],
            "first slice": run["first slice"],
            "peak MiB": run["peak"] / 2**20,
        }
        for run in runs
    ]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, scale=4, side=128, slices="10,20,40,100", large=512, repeats=3)
    lengths = [int(count) for count in given.slices.split(",")]
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        sources = {count: phantom(place / f"{count}", count, given.side) for count in lengths}
        runs: dict[int, list[dict[str, float]]] = {count: [] for count in lengths}
        for repeat in range(given.repeats):
            for count, source in sources.items():
                runs[count].append(run(source, place / f"{count}-out-{repeat}", given.scale, given.threads))
        medians = {count: figures(runs[count]) for count in lengths}
        told = {f"{count} slices of {given.side}": medians[count] for count in lengths}
        for name in ("seconds", "cpu seconds"):
            told[f"line through the {name}"] = line(lengths, [medians[count][name] for count in lengths], "a slice")
        told[f"peak, {lengths[-1]} slices of {lengths[0]}"] = {
            "ratio": medians[lengths[-1]]["peak MiB"] / medians[lengths[0]]["peak MiB"]
        }
        began = time.perf_counter()
        large = run(phantom(place / "large", 1, given.large), place / "large-out", 8, given.threads)
        told[f"one slice {given.large} -> {8 * given.large}"] = {
            "seconds": time.perf_counter() - began,
            "peak MiB": large["peak"] / 2**20,
        }
    tell(told, given.out)


if __name__ == "__main__":
    main()
