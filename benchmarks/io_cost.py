"""Measure the cost of HU, derived headers and all-or-nothing files beside plain pydicom, paired in one run.

Usage: python benchmarks/io_cost.py [--series FOLDER] [--scale 4] [--slices 8] [--repeats 7] [--out io_cost.json]

Both sides read every slice of a CT series, magnify it by repeating its pixels and write the result as explicit VR DICOM.
Plain pydicom sets Rows, Columns and PixelData and saves with the source's header, in three ways: stored values as they
are; the same flushed to disk, so that a file survives a power cut; and by way of Hounsfield units, as anything that
computes on them must (modality LUT, rounding, clipping), flushed too. Ours is everything from `read_volume` to `commit`.
The ways alternate, so that a busy machine slows all. Without --series a phantom of noise, 512 x 512, is used.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_modality_lut
from pydicom.uid import ExplicitVRLittleEndian

from qdm_med.io.derivation import Derivation
from qdm_med.io.dicom.rescale import magnified
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer


def phantom(folder: Path, slices: int) -> Path:
    """A series of 512 x 512 slices of noise with the header of pydicom's CT slice."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.Rows = dataset.Columns = 512
    noise = np.random.default_rng(0)
    folder.mkdir()
    for index in range(slices):
        dataset.PixelData = noise.integers(0, 2000, (512, 512), dtype=np.int16).tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{index + 1}"
        dataset.ImagePositionPatient = [-158.0, -179.0, 5.0 * index]
        dataset.save_as(folder / f"{index:04d}.dcm")
    return folder


def plain(source: Path, out: Path, scale: int, *, flush: bool, in_hu: bool = False) -> None:
    """Read and write with pydicom alone."""
    out.mkdir()
    for path in sorted(each for each in source.rglob("*") if each.is_file()):
        dataset = pydicom.dcmread(path)
        stored = dataset.pixel_array
        finer = (scale * dataset.Rows, scale * dataset.Columns)
        if in_hu:
            hu = magnified(apply_modality_lut(stored, dataset).astype(np.float32), finer)
            exact = (hu.astype(np.float64) - dataset.RescaleIntercept) / dataset.RescaleSlope
            kind = np.iinfo(stored.dtype)
            fine = np.clip(np.rint(exact), kind.min, kind.max).astype(stored.dtype)
        else:
            fine = magnified(stored, finer)
        dataset.Rows, dataset.Columns = fine.shape
        dataset.PixelData = fine.tobytes()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        with (out / path.name).open("wb") as file:
            dataset.save_as(file, implicit_vr=False, little_endian=True)
            if flush:
                file.flush()
                os.fsync(file.fileno())


def ours(source: Path, out: Path, scale: int) -> None:
    """Read a volume and write a derived series."""
    volume = read_volume(source)
    with open_writer(volume, out, Derivation(scale, "repeat", "0" * 64)) as writer:
        for index in range(len(volume)):
            hu = volume.slices[index].hu
            writer.write(index, magnified(hu, (scale * hu.shape[0], scale * hu.shape[1])))
        writer.commit()


def seconds(work: Callable[[Path], None], folder: Path) -> float:
    """Time one round in a folder of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as place:
        os.sync()
        started = time.perf_counter()
        work(Path(place) / "out")
        return time.perf_counter() - started


def main() -> None:
    """Alternate the ways and print medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=Path, help="folder of one CT series and nothing else")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--slices", type=int, default=8, help="slices of the phantom")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, default=Path("io_cost.json"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        source = arguments.series or phantom(folder / "source", arguments.slices)
        ways: dict[str, Callable[[Path], None]] = {
            "plain": lambda out: plain(source, out, arguments.scale, flush=False),
            "plain, flushed": lambda out: plain(source, out, arguments.scale, flush=True),
            "plain by HU, flushed": lambda out: plain(source, out, arguments.scale, flush=True, in_hu=True),
            "qdm-med": lambda out: ours(source, out, arguments.scale),
        }
        rounds = [{name: seconds(work, folder) for name, work in ways.items()} for _ in range(arguments.repeats + 1)]
    medians = {name: statistics.median(each[name] for each in rounds[1:]) for name in ways}  # the first round warms up
    result = {
        "scale": arguments.scale,
        "median_seconds": medians,
        "ratios": {name: medians["qdm-med"] / median for name, median in medians.items()},
        "rounds": rounds[1:],
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    for name, median in medians.items():
        print(f"{name}: {median:.3f} s, qdm-med takes {medians['qdm-med'] / median:.2f} times as long")


if __name__ == "__main__":
    main()
