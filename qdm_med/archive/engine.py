"""Many independent items through a Dask cluster: a bounded number at a time, lost workers survived, every end reported.

The scheduler never holds more than a few items a worker, so that its memory and its time an item do not grow with the
number of items. Items are anything that can be pickled; nothing here knows what is done with them.
"""

from __future__ import annotations

import pickle
import time
import uuid
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

from distributed import Client, Future, KilledWorker, get_worker

from qdm_med.archive.allocator import keep_freed_memory
from qdm_med.errors import ClusterError

Item = TypeVar("Item")

Tell = Callable[[Mapping[str, Any]], None]
"""Given to the function on the worker: what it tells arrives here while the item is under way."""

PER_THREAD = 1
"""Items that are with the cluster for each of its threads. One that waited at a worker would be blamed for its loss, too."""

_RESULT = "result"

BEAT_SECONDS = 0.5
"""Time between two looks at the cluster where nothing happens."""

LOST = "the scheduler was lost; what is finished is kept: start it and the same command again"

RETRIES = 2
"""Times that an item is handed out again after the scheduler gave it up, as it does after several lost workers."""


@dataclass(frozen=True)
class Finished(Generic[Item]):
    """An item whose function returned.

    Attributes:
        item: The item.
        result: Value that the function returned.
    """

    item: Item
    result: Any


@dataclass(frozen=True)
class Retried(Generic[Item]):
    """An item that is handed out again, because its worker was lost.

    Attributes:
        item: The item.
    """

    item: Item


@dataclass(frozen=True)
class GivenUp(Generic[Item]):
    """An item that no worker survived, or whose function raised.

    Attributes:
        item: The item.
        reason: Why, one line.
    """

    item: Item
    reason: str


@dataclass(frozen=True)
class Told:
    """Message that a function sent while it worked.

    Attributes:
        event: Names and values.
    """

    event: Mapping[str, Any]


@dataclass(frozen=True)
class Beat:
    """Time has passed.

    Attributes:
        workers: Workers of the cluster.
        threads: Their threads, which is how many items can run at once.
    """

    workers: int
    threads: int


Happening = Finished[Item] | Retried[Item] | GivenUp[Item] | Told | Beat


class Engine(Generic[Item]):
    """Hands items to a cluster.

    Args:
        client: The cluster.
        function: Work of a worker on an item, ``function(item, tell)``. It is called again for an item whose worker
            was lost.
        needs: Dask resources that an item asks of its worker.
    """

    def __init__(
        self,
        client: Client,
        function: Callable[[Item, Tell], Any],
        needs: Callable[[Item], Mapping[str, float]] = lambda item: {},
    ) -> None:
        self._client = client
        self._function = function
        self._needs = needs
        self._topic = f"qdm-med-{uuid.uuid4().hex}"
        self._news: SimpleQueue[Future | Mapping[str, Any]] = SimpleQueue()
        self._running: dict[str, tuple[Future, Item]] = {}
        self._attempts: dict[str, int] = {}
        self._threads = self._workers = 0

    def work_through(self, items: Iterable[Item]) -> Generator[Happening[Item], None, None]:
        """Yield events until every item has ended; closing the iterator leaves the rest undone.

        Raises:
            ClusterError: If the scheduler is lost.
        """
        waiting = deque(items)
        self._client.subscribe_topic(self._topic, self._hear)
        try:
            yield self._look()
            last = time.monotonic()
            while waiting or self._running:
                while waiting and len(self._running) < PER_THREAD * max(1, self._threads):
                    self._submit(waiting.popleft())
                yield from self._next()
                if time.monotonic() - last >= BEAT_SECONDS:
                    last = time.monotonic()
                    yield self._look()
        finally:
            self._leave()

    def _hear(self, event: tuple[float, Mapping[str, Any]]) -> None:
        self._news.put(event[1])

    def _submit(self, item: Item, attempt: int = 0) -> None:
        key = f"{self._topic}-{uuid.uuid4().hex}"
        future = self._client.submit(
            _call,
            pickle.dumps((self._function, item)),
            self._topic,
            key,
            key=key,
            resources=dict(self._needs(item)) or None,
            pure=False,
        )
        self._running[key] = future, item
        self._attempts[key] = attempt
        future.add_done_callback(self._news.put)

    def _next(self) -> Iterator[Happening[Item]]:
        try:
            news = self._news.get(timeout=BEAT_SECONDS)
        except Empty:
            return
        if isinstance(news, Future):
            yield from self._settled(news)
        elif _RESULT not in news:
            yield Told(news)
        elif news["key"] in self._running:  # once: a worker that was thought lost may answer, too
            yield Finished(self._forget(news["key"])[0], pickle.loads(news[_RESULT]))

    def _settled(self, future: Future) -> Iterator[Happening[Item]]:
        """Events that the end of a future brings; its result has arrived separately, before."""
        if future.key not in self._running or future.status == "finished":
            return
        if future.status != "error":
            raise ClusterError(LOST)
        error = future.exception()
        if isinstance(error, KilledWorker):
            yield self._hand_out_again(*self._forget(future.key))
            return
        reason = f"a worker could not run it ({type(error).__name__}); install the same version there"
        yield GivenUp(self._forget(future.key)[0], reason)

    def _forget(self, key: str) -> tuple[Item, int]:
        """Drop a future that is finished and return its item and attempt."""
        _, item = self._running.pop(key)
        return item, self._attempts.pop(key)

    def _hand_out_again(self, item: Item, attempt: int) -> Happening[Item]:
        if attempt < RETRIES:
            self._submit(item, attempt + 1)
            return Retried(item)
        return GivenUp(item, "every worker that had it was lost, out of memory perhaps; give workers more memory")

    def _look(self) -> Beat:
        """Ask the scheduler which workers are connected."""
        if self._client.status == "running":
            try:
                threads = self._client.nthreads()
            except (OSError, RuntimeError, TimeoutError):
                threads = None
            if threads is not None:
                self._workers, self._threads = len(threads), sum(threads.values())
                return Beat(self._workers, self._threads)
        raise ClusterError(LOST)

    def _leave(self) -> None:
        """Cancel the futures that the cluster still has."""
        if self._client.status != "running":
            return
        self._client.unsubscribe_topic(self._topic)
        self._client.cancel([future for future, _ in self._running.values()])


def _call(work: bytes, topic: str, key: str) -> None:
    """Run a function on the worker; the result travels through the scheduler, so that it is not lost with the worker.

    Function and item are unpickled here: where Dask does it a worker that lacks a module ends without a word.
    """
    keep_freed_memory()
    function, item = pickle.loads(work)
    result = function(item, partial(_tell, topic))
    get_worker().log_event(topic, {"key": key, _RESULT: pickle.dumps(result)})


def _tell(topic: str, event: Mapping[str, Any]) -> None:
    worker = get_worker()
    worker.log_event(topic, {**event, "worker": worker.address})
