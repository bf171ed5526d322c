"""Shares drawn ahead, in other processes: the same ones, in order, and errors as they were raised."""

from __future__ import annotations

import os
from itertools import count

import pytest
import torch
from torch import nn

from qdm_med.errors import DataError
from qdm_med.training.ahead import Ahead
from qdm_med.training.task import shares_of_process


class CountingTask:
    """Batches of three, two and three items, and so on; each says where and by whom it was drawn."""

    objective = nn.Linear(1, 1)
    broken_from = 10**9

    def size(self, step):
        return 3 - step % 2

    def draw(self, step, share):
        if step >= self.broken_from:
            raise DataError(f"slice {step} is damaged; prepare the store again")
        return torch.tensor([step, share.index, share.count]), os.getpid()


def drawn(ahead, first, steps, accumulate=2):
    task = CountingTask()
    places = [
        (step, share)
        for step in range(first, first + steps)
        for share in shares_of_process(task.size(step), accumulate)
    ]
    return [ahead(step, share) for step, share in places]


@pytest.mark.parametrize("first", [0, 7])
def test_the_shares_are_those_drawn_in_the_process_itself(first):
    alone = drawn(Ahead(CountingTask(), 2), first, 9)
    ahead = Ahead(CountingTask(), 2, workers=2)
    others = drawn(ahead, first, 9)
    ahead.close()
    assert all(torch.equal(mine, other) for (mine, _), (other, _) in zip(alone, others, strict=True))
    assert {process for _, process in alone} == {os.getpid()}
    assert len({process for _, process in others} - {os.getpid()}) == 2


def test_an_error_keeps_its_words():
    task = CountingTask()
    task.broken_from = 2
    ahead = Ahead(task, 2, workers=2)
    with pytest.raises(DataError, match=r"^slice 2 is damaged; prepare the store again$"):
        for step in count():
            for share in shares_of_process(task.size(step), 2):
                ahead(step, share)
    ahead.close()


def test_no_process_outlives_its_run():
    ahead = Ahead(CountingTask(), 1, workers=2)
    processes = {process for _, process in drawn(ahead, 0, 6, accumulate=1)}
    ahead.close()
    assert processes
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)
