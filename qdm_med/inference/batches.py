"""Batches of equal work instead of equal number; slices and tiles are cut into them here alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def in_batches(items: Iterable[Item], work: Callable[[Item], int], budget: int) -> Iterator[list[Item]]:
    """Cut items into batches, each closed as soon as its work reaches the budget.

    >>> list(in_batches([3, 1, 5, 2, 2], work=lambda item: item, budget=4))
    [[3, 1], [5], [2, 2]]

    Args:
        items: Work, in order.
        work: Work that an item asks for.
        budget: Work of a batch; 0: every item is a batch of its own.
    """
    batch: list[Item] = []
    collected = 0
    for item in items:
        batch.append(item)
        collected += work(item)
        if collected >= budget:
            yield batch
            batch, collected = [], 0
    if batch:
        yield batch
