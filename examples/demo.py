"""Upscale the CT slice that pydicom carries, and show the result.

Usage: python examples/demo.py OUTPUT_FOLDER

Writes the derived series (series/), a picture of input, bicubic, result and quadtree side by side (comparison.png)
and the figures of the run (report.json).
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure
from pydicom.data import get_testdata_file

from qdm_med import UpscaleOptions, load_upscaler, read_volume
from qdm_med.inference.runs.series import upscale_series
from qdm_med.resample import upsample

SCALE = 4
SOFT_TISSUE = (-160, 240)
"""Display window in HU."""


def main(folder: Path) -> None:
    """Upscale, compare, report."""
    source = folder / "source"
    if folder.exists():
        shutil.rmtree(folder)
    source.mkdir(parents=True)
    shutil.copy(str(get_testdata_file("CT_small.dcm", download=False)), source / "CT_small.dcm")

    upscaler = load_upscaler(options=UpscaleOptions(scale=SCALE))
    summary = upscale_series(source, folder / "series", upscaler)

    low_res = read_volume(source).slices[0]
    result = read_volume(folder / "series", force=True).slices[0]
    bicubic = upsample(torch.from_numpy(low_res.hu)[None, None], SCALE)[0, 0].numpy()
    leaves = upscaler.upscale_slice(low_res, "demo").leaves
    save_comparison(folder / "comparison.png", low_res.hu, bicubic, result.hu, leaves)

    report = {
        "model": upscaler.card.name,
        "model_sha256": upscaler.sha256,
        "scale": SCALE,
        "steps": upscaler.steps,
        "seconds": round(summary.seconds, 2),
        "active_leaves": round(summary.active_leaves, 3),
        "active_windows": round(summary.active_windows, 3),
        "input_shape": low_res.hu.shape,
        "output_shape": result.hu.shape,
        "mean_hu_input": round(float(low_res.hu.mean()), 2),
        "mean_hu_output": round(float(result.hu.mean()), 2),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"{report['input_shape']} -> {report['output_shape']} in {summary.seconds:.1f} s, "
        f"{summary.active_leaves:.0%} of the leaves active; see {folder}/comparison.png, {folder}/report.json "
        f"and the derived series in {folder}/series"
    )


def save_comparison(
    path: Path, low_res: np.ndarray, bicubic: np.ndarray, result: np.ndarray, leaves: np.ndarray
) -> None:
    """Draw input, bicubic, result and quadtree, whole and a detail of each."""
    mpl.use("Agg")
    figure = Figure(figsize=(16, 8.6), layout="constrained")
    panels = {"input": low_res, "bicubic": bicubic, "qdm-med": result}
    rows, columns = low_res.shape
    detail = slice(rows // 4, rows // 2), slice(columns // 4, columns // 2)
    for column, (title, image) in enumerate(panels.items()):
        factor = image.shape[0] // rows
        cut = tuple(slice(side.start * factor, side.stop * factor) for side in detail)
        for row, shown in enumerate((image, image[cut])):
            axes = figure.add_subplot(2, 4, 1 + column + 4 * row)
            axes.imshow(shown, cmap="gray", vmin=SOFT_TISSUE[0], vmax=SOFT_TISSUE[1], interpolation="nearest")
            axes.set_title(title if row == 0 else f"{title}, detail")
            axes.set_axis_off()
    for row, (background, mask) in enumerate(((low_res, leaves), (low_res[detail], leaves[detail]))):
        axes = figure.add_subplot(2, 4, 4 + 4 * row)
        axes.imshow(background, cmap="gray", vmin=SOFT_TISSUE[0], vmax=SOFT_TISSUE[1], interpolation="nearest")
        axes.imshow(np.ma.masked_where(~mask, mask), cmap="autumn", alpha=0.35, interpolation="nearest")
        axes.set_title(f"quadtree, {leaves.mean():.0%} active" if row == 0 else "quadtree, detail")
        axes.set_axis_off()
    figure.savefig(path, dpi=90)


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output"))
