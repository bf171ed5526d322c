"""Every size from 1 to 300, scale, tile and fusion: no pixel depends on where a slice ends or a tile begins."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.border_fuzz import AROUND, answers, borders, drawn, is_worse, judged, scene
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")
WRONG = 0.3
"""What the stand-in answers for parts of windows, in the network's range: hundreds of HU off."""


class WholeWindows:
    """Networks that repeat pixels, rightly in whole windows and far off in parts of one, as those that were trained on them."""

    batch_leaves = 0

    def __init__(self, scale, at_borders=0.0):
        self._scale, self._window, self._at_borders = scale, 64 // scale, at_borders
        self.told = None

    def super_resolve(self, plans, samples):
        return [{tile: self._answer(tile) for tile in plan.active_tiles} for plan in plans]

    def _answer(self, tile):
        seen = tile.image.clone()
        for axis in (1, 2):
            whole = seen.shape[axis] // self._window * self._window
            seen.narrow(axis, whole, seen.shape[axis] - whole).add_(WRONG)
            for place in (0, whole - 1):
                seen.narrow(axis, place, 1).add_(self._at_borders)
        rows, columns = tile.size
        return seen[:, :rows, :columns].repeat_interleave(self._scale, 1).repeat_interleave(self._scale, 2)


def upscaled(checkpoint, hu, options):
    model = Upscaler(checkpoint, options, device=CPU)
    model._networks = WholeWindows(options.scale)
    return model.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "series").hu


def repeated(hu, scale):
    return hu.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [4, 8])
def test_every_pixel_of_every_size_is_the_networks_answer_there(tiny_checkpoint, scale):
    rng = np.random.default_rng(scale)
    content = rng.uniform(-200, 200, (300, 300)).astype(np.float32)
    content[::7] += 300
    fusions = (("gaussian", 33), ("gaussian", None), ("halo", 80), ("halo", None))
    for length in range(1, 301):
        other = int(rng.integers(1, 20))
        shape = (length, other) if length % 2 else (other, length)
        hu = content[: shape[0], : shape[1]]
        fusion, tile = fusions[int(rng.integers(4))]
        options = UpscaleOptions(
            scale=scale, steps=1, threshold=0.0, quadtree="paper", consistency="off", fusion=fusion, tile=tile
        )
        found = upscaled(tiny_checkpoint, hu, options)
        np.testing.assert_allclose(found, repeated(hu, scale), atol=0.1, err_msg=f"{shape} {fusion} {tile}")


def test_a_border_that_is_wrong_is_told_where_it_is():
    within = np.full((9, 7), 10.0, dtype=np.float32)
    alone = within.copy()
    alone[:, -1] += 100
    told = {name for name, three in borders(alone, within).items() if is_worse(*three)}
    assert told == {"right", "top", "bottom"}  # whose corners it is
    assert not any(is_worse(*three) for three in borders(1.2 * within, within).values())
    assert not any(is_worse(*three) for three in borders(5 * within, within).values())  # all of it, not its borders
    assert borders(alone[:3], within[:3])["right"] == (60.0, 10.0, 0.0)


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize(("rows", "columns"), [(15, 45), (1, 40), (48, 32)])
def test_what_networks_err_by_at_any_border_is_told_from_what_is_done_around_them(
    tiny_checkpoint, scale, rows, columns
):
    hu = np.random.default_rng(0).uniform(-200, 200, (rows + 2 * AROUND, columns + 2 * AROUND)).astype(np.float32)
    crop = slice(AROUND, AROUND + rows), slice(AROUND, AROUND + columns)
    options = UpscaleOptions(scale, steps=1, threshold=0.0, quadtree="paper", consistency="off", tile=160)
    model = Upscaler(tiny_checkpoint, options, device=CPU)
    model._networks = WholeWindows(scale, at_borders=WRONG)
    right = answers(model)
    found = judged(right, right, hu, crop)
    suspects = {border for border, several in found.items() if len(several) == 4}
    assert suspects >= {"top", "left"}  # beyond the others they may see what was reflected
    assert not [found[border] for border in suspects if is_worse(*found[border])]

    def smeared(image):
        """Leave the last row to chance, as half windows would."""
        answer = right(image)
        if image.shape[0] == rows:
            answer[-1] += 1000
        return answer

    found = judged(smeared, right, hu, crop)
    assert is_worse(*found["bottom"])
    assert len(found["bottom"]) == 4


def test_draws_are_the_same_for_a_seed_and_can_be_run(tiny_checkpoint):
    first, again = (list(drawn(40, 300, 5)) for _ in range(2))
    assert first == again != list(drawn(40, 300, 6))
    assert {one.options.scale for one in first} == {4, 8}
    assert {one.options.fusion for one in first} == {"gaussian", "halo"}
    assert min(min(one.rows, one.columns) for one in first) == 1
    assert max(max(one.rows, one.columns) for one in first) > 200
    for one in first:  # tiles that cannot be are refused here
        Upscaler(tiny_checkpoint, one.options, device=CPU)
    hu = scene(20, 30, np.random.default_rng(0))
    assert hu.shape == (20, 30)
    assert hu.dtype == np.float32
