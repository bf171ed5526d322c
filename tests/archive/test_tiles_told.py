"""A series of one large slice is seen to move: workers tell of tiles, and the table shows them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from qdm_med.archive import work
from qdm_med.archive.request import Request
from qdm_med.archive.run import plan_only
from qdm_med.archive.tally import Tally
from qdm_med.cli.archive_words import status_table
from qdm_med.inference.options import UpscaleOptions
from tests.archive.trees import write_tree


@pytest.fixture
def wide(tmp_path, checkpoint):
    """One series of one slice of several tiles."""
    tree = write_tree(tmp_path / "tree", 1, slices=1, rows=64, columns=64)
    options = UpscaleOptions(steps=1, tile=32, threshold=0.0)
    return Request.of(tree, tmp_path / "out", checkpoint, options, "cpu")


def test_a_worker_tells_of_every_tile_of_a_slice_and_the_table_shows_it(wide, monkeypatch):
    (series,) = plan_only(wide).accepted
    job = work.Job(wide.tree, wide.out, wide.settings, wide.checkpoint, "cpu")
    told = []
    monkeypatch.setattr(work, "REPORT_SECONDS", 0.0)
    assert work.super_resolve(job, series, told.append).state == "done"
    tiles = len(wide.upscalers().at(4).tiling.starts(64)) ** 2
    shares = [event["done"] for event in told if event["event"] == "slices"]
    assert tiles > 3
    assert shares[0] == 0  # read, and nothing computed yet
    assert shares[1:] == pytest.approx([number / tiles for number in range(1, tiles)])

    tally = Tally({series.id: series}, 0, set(), workers=1)
    tally._began -= 10  # seconds
    for event in told[: 1 + tiles]:
        tally.told({**event, "worker": "tcp://one"})
    now = tally.snapshot()
    assert now.running[0].done == pytest.approx((tiles - 1) / tiles, abs=1e-3)
    assert (now.slices_done, now.slices) == (0, 1)  # whole ones
    assert now.series_done == now.running[0].done
    assert now.seconds_left == pytest.approx(10 / (tiles - 1), abs=0.2)
    console = Console(width=100, file=io.StringIO())
    console.print(status_table(now))
    assert f"0/1 ({(tiles - 1) / tiles:.0%})" in console.file.getvalue()


def test_between_two_reports_of_a_worker_lies_a_second(wide, monkeypatch):
    (series,) = plan_only(wide).accepted
    clock, told = [0.0], []
    monkeypatch.setattr(work.time, "monotonic", lambda: clock[0])
    progress = work._throttled(series, told.append)
    for number in range(40):
        clock[0] = number / 10
        progress(number / 40, 1, None)
    assert [event["done"] for event in told] == [10 / 40, 20 / 40, 30 / 40]
