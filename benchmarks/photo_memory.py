"""Measure the peak memory of a large photograph, and whether its rows and columns jump where tiles begin and end.

Usage: python benchmarks/photo_memory.py CHECKPOINT [--rows 4000] [--columns 6000] [--tile 128] [--steps 1] [--out photo_memory.json]

CHECKPOINT is one for photographs. The photograph is scikit-image's astronaut, mirrored to 24 megapixels or the size that is asked
for, and becomes a PNG four times as large in a temporary folder. Memory is that of this process, the networks and Python included.
Exits with 1 where the peak is 4 GiB or more.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import skimage.data
from numpy.typing import NDArray
from PIL import Image

from qdm_med.device import pick_device
from qdm_med.natural.checkpoint import load_natural
from qdm_med.natural.images import Photo
from qdm_med.natural.upscale import Bands, PhotoOptions, PhotoUpscaler, upscale_photo

LIMIT_GIB = 4.0


class WatchedUpscaler(PhotoUpscaler):
    """Upscaler that measures how far neighbouring rows and columns differ, band by band."""

    def bands(self, photo: Photo, progress: Callable[[int, int], None] | None = None) -> Iterator[Bands]:
        """Yield bands as the upscaler does, measuring each."""
        last, rows = None, []
        columns = np.zeros(photo.size[1] * self.card.scale - 1)
        for band in super().bands(photo, progress):
            joined = band if last is None else np.concatenate([last, band])
            rows.append(np.abs(np.diff(joined, axis=0)).mean(axis=(1, 2)))
            columns += np.abs(np.diff(band, axis=1)).mean(axis=2).sum(axis=0)
            last = band[-1:]
            yield band
        self.jumps = (np.concatenate(rows), columns / (photo.size[0] * self.card.scale))

    def at_borders(self, jumps: NDArray[np.float64], length: int) -> float:
        """Mean jump where tiles begin or end along a side of ``length`` source pixels, over the mean elsewhere."""
        starts, scale = np.array(self.tiling.starts(length)), self.card.scale
        borders = np.unique(np.concatenate([starts[1:], starts[:-1] + self.tiling.tile])) * scale - 1
        return float(jumps[borders].mean() / np.delete(jumps, borders).mean())


def mirrored(rows: int, columns: int) -> NDArray[np.uint8]:
    """A photograph of any size."""
    image = skimage.data.astronaut()
    return np.pad(image, ((0, max(0, rows - 512)), (0, max(0, columns - 512)), (0, 0)), mode="symmetric")[
        :rows, :columns
    ]


def main() -> None:
    """Super-resolve once and tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--columns", type=int, default=6000)
    parser.add_argument("--tile", type=int, default=128)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("photo_memory.json"))
    arguments = parser.parse_args()
    options = PhotoOptions(steps=arguments.steps, tile=arguments.tile)
    upscaler = WatchedUpscaler(load_natural(arguments.checkpoint), options, device=pick_device("cpu"))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photo.png"
        Image.fromarray(mirrored(arguments.rows, arguments.columns)).save(source)
        summary = upscale_photo(source, Path(folder) / "fine.png", upscaler)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux
    sides = zip(("rows", "columns"), upscaler.jumps, (arguments.rows, arguments.columns), strict=True)
    ratios = {name: upscaler.at_borders(jumps, length) for name, jumps, length in sides}
    result = {
        "source": [arguments.rows, arguments.columns],
        "tiles": summary.tiles,
        "seconds": summary.seconds,
        "peak_gib": peak,
        "jumps_at_borders_over_elsewhere": ratios,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"{summary.columns} x {summary.rows} pixels, {summary.tiles} tiles, {summary.seconds:.0f} s, peak {peak:.2f} GiB"
    )
    print(", ".join(f"{name} jump {ratio:.3f} times as far at borders of tiles" for name, ratio in ratios.items()))
    sys.exit(peak >= LIMIT_GIB)


if __name__ == "__main__":
    main()
