"""Pipeline that reads, computes and writes at the same time, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from qdm_med.inference.batches import in_batches

Item = TypeVar("Item")
Read = TypeVar("Read")
Computed = TypeVar("Computed")

AHEAD = 2
"""Items that are read before they are needed, and batches that may wait to be written."""


def overlapped(
    items: Iterable[Item],
    read: Callable[[Item], Read],
    compute: Callable[[Sequence[Read]], Sequence[Computed]],
    write: Callable[[Item, Computed], object],
    *,
    work: Callable[[Read], int],
    budget: int,
) -> Generator[tuple[Item, Computed], None, None]:
    """Read ahead in one thread and write behind in another while this one computes.

    Items are computed in batches of equal work, not of equal number: a batch is closed when its work reaches the budget.
    Close the generator where it is left early: that ends the threads, once what they have begun is done.

    Args:
        items: Work, in order.
        read: Runs in one thread, one item after the other.
        compute: Runs here, on a batch; returns one result an item.
        write: Runs in one thread, one item after the other.
        work: Work that an item asks for.
        budget: Work of a batch; 0: every item is a batch of its own.

    Yields:
        Each item with its result, once it is written, in order.

    Raises:
        Exception: The first that any of the three raises; nothing is begun after it.
    """
    with ThreadPoolExecutor(1, "read") as reader, ThreadPoolExecutor(1, "write") as writer:
        writing: deque[tuple[Item, Computed, Future[object]]] = deque()
        try:
            for batch in in_batches(_read_ahead(items, read, reader), lambda one: work(one[1]), budget):
                results = compute([value for _, value in batch])
                for (item, _), result in zip(batch, results, strict=True):
                    writing.append((item, result, writer.submit(write, item, result)))
                while len(writing) > AHEAD:
                    yield _written(writing)
            while writing:
                yield _written(writing)
        finally:
            writer.shutdown(cancel_futures=True)
            reader.shutdown(cancel_futures=True)


def _read_ahead(
    items: Iterable[Item], read: Callable[[Item], Read], reader: ThreadPoolExecutor
) -> Iterator[tuple[Item, Read]]:
    reading: deque[tuple[Item, Future[Read]]] = deque()
    for item in items:
        reading.append((item, reader.submit(read, item)))
        if len(reading) > AHEAD:
            first, value = reading.popleft()
            yield first, value.result()
    for item, value in reading:
        yield item, value.result()


def _written(writing: deque[tuple[Item, Computed, Future[object]]]) -> tuple[Item, Computed]:
    item, result, done = writing.popleft()
    done.result()
    return item, result
