"""Items through a cluster whose results come back in the items' order, so that nothing depends on who was faster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from distributed import Client

from qdm_med.archive.engine import Engine, Finished, GivenUp, Tell, Told
from qdm_med.errors import ClusterError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Stop:
    """Result of a function when the run must end: a reason that all items share.

    Attributes:
        error: Exception to raise here.
    """

    error: Exception


def in_order(
    client: Client,
    function: Callable[[Item, Tell], Any],
    items: Sequence[Item],
    needs: Mapping[str, float],
    told: Tell = lambda event: None,
) -> Iterator[Any]:
    """Yield the result of every item, the first item's first; those that end early wait in memory.

    Args:
        client: The cluster.
        function: Work of a worker on an item, ``function(item, tell)``; it is called again where a worker was lost.
        items: Can be pickled, as the results can.
        needs: Dask resources that an item asks of its worker.
        told: Hears here what functions tell while they work.

    Raises:
        ClusterError: If the scheduler is lost, or no worker survives an item.
        Exception: What a :class:`Stop` holds.
    """
    engine = Engine(client, _Numbered(function), lambda item: needs)
    early: dict[int, Any] = {}
    due = 0
    with closing(engine.work_through(enumerate(items))) as happenings:
        for happening in happenings:
            match happening:
                case Finished(item=(number, _), result=Stop(error)):
                    raise error
                case Finished(item=(number, _), result=result):
                    early[number] = result
                case Told(event=event):
                    told(event)
                case GivenUp(item=(number, _), reason=reason):
                    raise ClusterError(f"item {number + 1} of {len(items)}: {reason}; what is finished is kept")
            while due in early:
                yield early.pop(due)
                due += 1


@dataclass(frozen=True)
class _Numbered(Generic[Item]):
    """A function of an item as one of a numbered item, which can be sent to a worker."""

    function: Callable[[Item, Tell], Any]

    def __call__(self, numbered: tuple[int, Item], tell: Tell) -> Any:
        return self.function(numbered[1], tell)
