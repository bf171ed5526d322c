"""Draw a clinical slice in lung, soft-tissue and bone windows: source, bicubic and result, side by side, enlarged.

Usage: python -m tools.clinical_pictures OUT.png [SERIES] [--scale 4] [--at ROW,COLUMN ...] [--side 52] [--checkpoint FILE]

Without SERIES the slice is one that pydicom carries. Each row of the picture is a place on it in one of the windows, at 300 % of
the result's pixels. What is drawn is what ``qdm-med upscale`` answers with the given checkpoint, by default the embedded one.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from pydicom.data import get_testdata_file

from qdm_med import UpscaleOptions, load_upscaler, read_volume
from qdm_med.models.conditioning import upsample

WINDOWS = {"lung": (-600.0, 1500.0), "soft tissue": (40.0, 400.0), "bone": (300.0, 1500.0)}
"""Centre and width in HU."""

ZOOM = 3
GAP = 6


def shown(hu: NDArray[np.float32], window: tuple[float, float], size: int) -> NDArray[np.uint8]:
    """A square of HU as grey values, every pixel a square of its own."""
    centre, width = window
    grey = (np.clip((hu - centre) / width + 0.5, 0, 1) * 255).round().astype(np.uint8)
    return np.asarray(Image.fromarray(grey).resize((size, size), Image.Resampling.NEAREST))


def row(images: list[NDArray[np.float32]], window: tuple[float, float], size: int) -> NDArray[np.uint8]:
    """Images side by side, white between them."""
    gap = np.full((size, GAP), 255, np.uint8)
    parts = [part for image in images for part in (shown(image, window, size), gap)]
    return np.hstack(parts[:-1])


def main(arguments: argparse.Namespace) -> None:
    """Upscale, cut, draw."""
    scale, side = arguments.scale, arguments.side
    series = arguments.series or Path(str(get_testdata_file("CT_small.dcm", download=False)))
    ct_slice = read_volume(series).slices[arguments.slice]
    upscaler = load_upscaler(arguments.checkpoint, UpscaleOptions(scale=scale, mode=arguments.mode))
    fine = upscaler.upscale_slice(ct_slice, "picture").hu
    plain = upsample(torch.from_numpy(ct_slice.hu)[None, None], scale)[0, 0].numpy()
    size = side * scale * ZOOM
    rows = []
    for place in arguments.at:
        top, left = (int(value) - side // 2 for value in place.split(","))
        source = ct_slice.hu[top : top + side, left : left + side]
        cut = (slice(top * scale, (top + side) * scale), slice(left * scale, (left + side) * scale))
        rows += [row([source, plain[cut], fine[cut]], WINDOWS[name], size) for name in arguments.windows.split(",")]
    gap = np.full((GAP, rows[0].shape[1]), 255, np.uint8)
    picture = np.vstack([part for one in rows for part in (one, gap)][:-1])
    Image.fromarray(picture).save(arguments.out, optimize=True)
    print(
        f"{arguments.out}: {picture.shape[1]} x {picture.shape[0]}, model {upscaler.card.name} {upscaler.sha256[:12]}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("series", type=Path, nargs="?")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--slice", type=int, default=0)
    parser.add_argument("--at", nargs="+", default=["44,84"])
    parser.add_argument("--side", type=int, default=52)
    parser.add_argument("--mode")
    parser.add_argument("--windows", default=",".join(WINDOWS))
    parser.add_argument("--checkpoint", type=Path)
    main(parser.parse_args())
