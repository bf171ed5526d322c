"""Progress tile by tile: the count never goes back, and is whole only when everything is written."""

from __future__ import annotations

import pytest
import torch

from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.by_tile import ByTile
from qdm_med.inference.runs.series import upscale_series
from qdm_med.inference.upscaler import Upscaler


@pytest.mark.parametrize("batch_leaves", [0, 10**6])
@pytest.mark.parametrize("samples", [1, 2])
def test_tiles_and_slices_make_one_count_that_never_goes_back(source, tiny_checkpoint, tmp_path, batch_leaves, samples):
    options = UpscaleOptions(steps=1, threshold=0.0, samples=samples, batch_leaves=batch_leaves)
    upscaler, told = Upscaler(tiny_checkpoint, options, device=torch.device("cpu")), []
    for name in ("first", "second"):  # what an earlier series counted is none of the next one's
        told.clear()
        progress = ByTile(upscaler, lambda *now: told.append(now))
        upscale_series(source, tmp_path / name, upscaler, progress=progress, uncertainty=samples > 1)
        counts = [done for done, _, _ in told]
        assert counts == sorted(counts)
        assert counts[0] == 0
        assert counts.count(4) == 1
        assert counts[-1] == 4
        assert {total for _, total, _ in told} == {4}
        assert sum(result is not None for _, _, result in told) == 4
        if samples > 1:  # two looks at a slice, or at all of them
            assert (2.0 if batch_leaves else 0.5) in counts


def test_what_is_told_before_a_run_begins_or_after_it_is_not_counted(tiny_checkpoint):
    upscaler, told = Upscaler(tiny_checkpoint, UpscaleOptions(), device=torch.device("cpu")), []
    progress = ByTile(upscaler, lambda *now: told.append(now))
    upscaler.told(0.5)
    progress(3, 5, None)  # two slices are left
    upscaler.told(0.25)
    upscaler.told(1.0)
    upscaler.told(1.5)
    progress(4, 5, None)  # the first of them is written only now
    upscaler.told(2.0)
    progress(5, 5, None)
    upscaler.told(2.5)
    assert [done for done, _, _ in told] == [3, 3.25, 4, 4.5, 4.5, 5]
