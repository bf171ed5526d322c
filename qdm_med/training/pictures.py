"""Pictures of a run: its curves, and slices of the last validation. They need matplotlib, the extra ``plots``.

They say nothing that the log does not; without matplotlib a run is the same run without them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from qdm_med.files import write_whole
from qdm_med.training.task import Sample

CURVES_FILE = "curves.png"
SAMPLES_FILE = "samples.png"

SIDE = 256
"""Pixels of each sample that are shown, around its centre: one for one, since resampling would hide the detail."""

GAP, MARGIN = 4, 24
"""Pixels between the samples, and above and left of them for the text."""

DPI = 100


def draw_curves(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the losses (logarithmic) and the validation figures over the steps.

    Figures of one scale share a panel, so that ``psnr_x4`` stands beside ``bicubic_x4``; others have one each.

    Args:
        lines: Of the log.
        path: PNG file to write.
    """
    panels = {"losses": _series([line for line in lines if "loss" in line])}
    validations = [{"step": line["step"], **line["validation"]} for line in lines if "validation" in line]
    for name, points in _series(validations).items():
        scale = re.search(r"_(x\d+)$", name)
        panels.setdefault(f"validation, {scale[1]}" if scale else f"validation, {name}", {})[name] = points
    if (figure := _figure(4 * len(panels), 3.5)) is None:
        return
    for axes, (title, curves) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        axes.set(title=title, xlabel="step", yscale="log" if title == "losses" else "linear")
        for name, (steps, values) in curves.items():
            axes.plot(steps, values, label=name, linewidth=1, marker="" if title == "losses" else ".")
        if curves:
            axes.legend(fontsize="small")
    figure.set_layout_engine("tight")
    _save(figure, path)


def draw_samples(samples: Sequence[Sample], path: Path) -> None:
    """Draw bicubic, result and reference of each sample in a row, -1 black and 1 white; no file without samples.

    Args:
        samples: Slices of a validation.
        path: PNG file to write.
    """
    if not samples:
        return
    columns = ("bicubic", "result", "reference")
    tiles = [[_centre(getattr(sample, column)) for column in columns] for sample in samples]
    side = max(tile.shape[axis] for row in tiles for tile in row for axis in (0, 1))
    pitch = side + GAP
    width, height = MARGIN + 3 * pitch - GAP, MARGIN + len(tiles) * pitch - GAP
    if (figure := _figure(width / DPI, height / DPI)) is None:
        return
    text = {"ha": "center", "va": "center", "fontsize": 8}
    for place, column in enumerate(columns):
        figure.text((MARGIN + place * pitch + side / 2) / width, 1 - MARGIN / 2 / height, column, **text)
    for number, (sample, row) in enumerate(zip(samples, tiles, strict=True)):
        bottom = height - MARGIN - number * pitch - side
        figure.text(MARGIN / 2 / width, (bottom + side / 2) / height, sample.name, rotation=90, **text)
        for place, tile in enumerate(row):
            figure.figimage(tile, MARGIN + place * pitch, bottom, cmap="gray", vmin=-1, vmax=1, origin="upper")
    _save(figure, path)


def _series(lines: Sequence[Mapping[str, Any]]) -> dict[str, tuple[list[int], list[float]]]:
    """Collect steps and values by name, leaving out everything but losses and figures."""
    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name in line.keys() - {"step", "seconds", "cpu_minutes", "rate"}:
            if name.endswith("grad"):
                continue
            steps, values = series.setdefault(name, ([], []))
            steps.append(line["step"])
            values.append(line[name])
    return dict(sorted(series.items()))


def _centre(image: Tensor) -> NDArray[Any]:
    rows, columns = (slice(max(0, (length - SIDE) // 2), (length + SIDE) // 2) for length in image.shape)
    shown: NDArray[Any] = np.asarray(image[rows, columns].float())
    return shown


def _figure(width: float, height: float) -> Any:
    """Make a matplotlib figure of so many inches; ``None`` where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    return Figure(figsize=(width, height), dpi=DPI)


def _save(figure: Any, path: Path) -> None:
    write_whole(path, lambda file: figure.savefig(file, format="png", dpi=DPI))
