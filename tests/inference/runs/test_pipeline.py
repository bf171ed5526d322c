"""Stages that overlap: in order, by work, bounded, and nothing begun after an error."""

from __future__ import annotations

import threading
import time
from contextlib import closing

import pytest

from qdm_med.inference.runs.pipeline import AHEAD, overlapped


def run(items, *, read=lambda item: item, compute=list, write=lambda item, result: None, budget=0):
    return overlapped(items, read, compute, write, work=lambda value: value, budget=budget)


def test_every_item_comes_back_in_order_with_its_result_and_written():
    written = []
    done = run(range(20), compute=lambda batch: [-item for item in batch], write=lambda *pair: written.append(pair))
    assert list(done) == written == [(item, -item) for item in range(20)]


@pytest.mark.parametrize(("budget", "expected"), [(0, [1, 1, 1, 1, 1]), (5, [2, 1, 2]), (100, [5])])
def test_batches_are_closed_by_their_work(budget, expected):
    sizes = []

    def compute(batch):
        sizes.append(len(batch))
        return batch

    assert len(list(run([1, 4, 9, 0, 2], compute=compute, budget=budget))) == 5
    assert sizes == expected


def test_the_three_stages_run_at_the_same_time():
    meet = threading.Barrier(3, timeout=5)

    def read(item):
        if item == 4:
            meet.wait()
        return item

    def compute(batch):
        if batch == [3]:
            meet.wait()
        return batch

    def write(item, result):
        if item == 2:
            meet.wait()

    assert len(list(run(range(6), read=read, compute=compute, write=write))) == 6


def test_no_more_is_read_than_is_soon_needed():
    read_so_far, computed = [], []

    def compute(batch):
        time.sleep(0.01)
        computed.extend(batch)
        assert len(read_so_far) <= len(computed) + AHEAD + 1
        return batch

    list(run(range(30), read=lambda item: read_so_far.append(item) or item, compute=compute))


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_the_error_of_a_stage_is_raised_and_nothing_is_begun_after_it(stage):
    begun = []

    def fail(item, *rest):
        begun.append(item)
        if len(begun) == 3:
            raise ValueError("broken")
        return item

    with pytest.raises(ValueError, match="broken"):
        list(run(range(100), **{stage: fail}))
    time.sleep(0.05)
    assert len(begun) <= 3 + AHEAD + 1


def test_leaving_early_ends_the_threads():
    before = threading.active_count()
    written = []
    with closing(run(range(100), write=lambda item, result: written.append(item))) as done:
        next(done)
    count = len(written)
    time.sleep(0.05)
    assert len(written) == count < 100
    assert threading.active_count() == before
