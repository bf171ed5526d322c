"""Pictures of a run show what its log and its samples say, and no run needs them."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from qdm_med.training.pictures import GAP, SIDE, _series, draw_curves, draw_samples
from qdm_med.training.task import Sample

LINES = [
    {"step": 10, "seconds": 1.0, "rate": 1e-3, "loss": 2.0, "merged": 1.5, "grad": 1.0},
    {"step": 20, "seconds": 2.0, "rate": 1e-3, "loss": 1.0, "merged": 0.5, "grad": 1.0, "discriminator_grad": 1.0},
    {"step": 20, "seconds": 2.0, "validation": {"psnr_x4": 30.0, "bicubic_x4": 28.0, "psnr_x8": 25.0, "mae_hu": 9.0}},
]


def samples(height, width):
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.uniform(-1, 1, (2, 3, height, width)).astype(np.float32))
    return [Sample(f"x{number}", *row) for number, row in enumerate(images)]


def read(path):
    image = pytest.importorskip("matplotlib.image")
    return image.imread(path)[..., 0]  # red, 0 to 1


def test_curves_hold_every_loss_and_figure_of_the_log():
    assert _series(LINES[:2]) == {"loss": ([10, 20], [2.0, 1.0]), "merged": ([10, 20], [1.5, 0.5])}


@pytest.mark.parametrize("lines", [LINES, LINES[:1], LINES[2:], []])
def test_curves_are_drawn_at_every_stage_of_a_run(tmp_path, lines):
    pytest.importorskip("matplotlib")
    draw_curves(lines, tmp_path / "curves.png")
    panels = 1 + 3 * any("validation" in line for line in lines)  # losses; x4, x8, mae_hu
    assert read(tmp_path / "curves.png").shape == (350, 400 * panels)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


@pytest.mark.parametrize(("height", "width"), [(64, 64), (512, 400)])
def test_samples_are_shown_pixel_for_pixel(tmp_path, height, width):
    pytest.importorskip("matplotlib")
    rows = samples(height, width)
    draw_samples(rows, tmp_path / "samples.png")
    picture = read(tmp_path / "samples.png")
    side = min(SIDE, height)
    for number, sample in enumerate(reversed(rows)):
        for place, name in enumerate(("reference", "result", "bicubic")):
            image = np.asarray(getattr(sample, name))
            top, left = (height - side) // 2, (width - side) // 2
            bottom, right = (
                length - at * (side + GAP) for length, at in zip(picture.shape, (number, place), strict=True)
            )
            shown = picture[bottom - side : bottom, right - side : right]
            np.testing.assert_allclose(
                shown, (image[top : top + side, left : left + side] + 1) / 2, atol=1 / 128, err_msg=name
            )


def test_without_samples_or_matplotlib_nothing_is_drawn(tmp_path, monkeypatch):
    draw_samples([], tmp_path / "samples.png")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    draw_curves(LINES, tmp_path / "curves.png")
    draw_samples(samples(8, 8), tmp_path / "samples.png")
    assert list(tmp_path.iterdir()) == []
