"""Whole runs of `qdm-med upscale`: time and memory by slices and by slice size, and what is not the model.

Usage: python benchmarks/whole_series.py [--scale 4] [--side 128] [--threads 2] [--out whole_series.json]

Every run is a process of its own over a series of phantoms (an ellipse of soft tissue with lungs and noise). Told are the
line that fits the seconds over the slices and its largest relative residual, the peak memory of 10 and of 100 slices, the
first slice's time from the start of the process, the peak memory of one 512 x 512 slice at x8, and the share of a run that
is not spent in the networks (reading, mapping, fusing, agreeing with the source, writing). Linux only: /proc tells the peak.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from timing import arguments, tell

SLICES = (10, 20, 40, 100)

RUN = """
import json, sys, time
started = time.perf_counter()
import torch
torch.set_num_threads(int(sys.argv[4]))
from pathlib import Path
from qdm_med.inference import super_resolution, upscale
from qdm_med.inference.series import upscale_series
in_networks, first = [0.0], [0.0]
original = upscale.super_resolve
def timed(*arguments, **options):
    began = time.perf_counter()
    result = original(*arguments, **options)
    in_networks[0] += time.perf_counter() - began
    return result
upscale.super_resolve = timed
def progress(done, total, ct_slice):
    if done == 1:
        first[0] = time.perf_counter() - started
upscaler = upscale.load_upscaler(options=upscale.UpscaleOptions(scale=int(sys.argv[3])), device="cpu")
summary = upscale_series(Path(sys.argv[1]), Path(sys.argv[2]), upscaler, progress=progress)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
print(json.dumps({"seconds": summary.seconds, "in networks": in_networks[0], "first slice": first[0], "peak": peak}))
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
    """One run in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-c", RUN, str(source), str(out), str(scale), str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, scale=4, side=128)
    told = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        runs = {}
        for count in SLICES:
            source = phantom(place / f"{count}", count, given.side)
            runs[count] = run(source, place / f"{count}-out", given.scale, given.threads)
            figures = runs[count]
            told[f"{count} slices of {given.side}"] = {
                "seconds": figures["seconds"],
                "not in networks": 1 - figures["in networks"] / figures["seconds"],
                "first slice": figures["first slice"],
                "peak MiB": figures["peak"] / 2**20,
            }
        seconds = np.array([runs[count]["seconds"] for count in SLICES])
        slope, start = np.polyfit(SLICES, seconds, 1)
        residual = np.abs(slope * np.array(SLICES) + start - seconds) / seconds
        told["line through the seconds"] = {"a slice": slope, "start": start, "largest residual": residual.max()}
        told["peak, 100 slices of 10"] = {"ratio": runs[100]["peak"] / runs[10]["peak"]}
        began = time.perf_counter()
        large = run(phantom(place / "large", 1, 512), place / "large-out", 8, given.threads)
        told["one slice 512 -> 4096"] = {"seconds": time.perf_counter() - began, "peak MiB": large["peak"] / 2**20}
    tell(told, given.out)


if __name__ == "__main__":
    main()
