"""Batches drawn ahead of their step, in processes of their own, so that a fast device need not wait for them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import count
from typing import Any

from torch.utils.data import DataLoader, Dataset, Sampler

from qdm_med.errors import QdmMedError
from qdm_med.training.task import Share, Task, shares_of_process

DRAWN_AHEAD = 4
"""Shares that each process has ready or in the making."""


class Ahead:
    """Draw the shares of this process, one step after the other, in the process itself or ahead of it.

    What is drawn does not depend on who draws it.

    Args:
        task: Draws them.
        accumulate: Shares of a step, as for :func:`qdm_med.training.task.shares_of_process`.
        workers: Processes that draw ahead; 0: none, each share is drawn when it is asked for.
    """

    def __init__(self, task: Task[Any], accumulate: int, workers: int = 0) -> None:
        self._task, self._accumulate, self._workers = task, accumulate, workers
        self._coming: Iterator[Any] | None = None

    def __call__(self, step: int, share: Share) -> Any:
        """Return a share; the first call may be for any step, every other is for the share that follows.

        Raises:
            QdmMedError: As the task raised it, wherever it draws.
        """
        if not self._workers:
            return self._task.draw(step, share)
        if self._coming is None:
            with warnings.catch_warnings():
                warnings.filterwarnings(
                    "ignore", "This DataLoader will create", UserWarning
                )  # more than cores, as asked
                self._coming = iter(self._loader(step))
        drawn = next(self._coming)
        if isinstance(drawn, QdmMedError):
            raise drawn
        return drawn

    def close(self) -> None:
        """End the processes; what they have drawn beyond the last step is lost."""
        self._coming = None

    def _loader(self, step: int) -> DataLoader[Any]:
        return DataLoader(
            _Drawn(self._task),
            batch_size=None,
            sampler=_SharesInOrder(self._task, self._accumulate, step),
            num_workers=self._workers,
            prefetch_factor=DRAWN_AHEAD,
            # Forked, so that a task, which holds networks, need not be sent; the copies leave the device alone.
            multiprocessing_context="fork",
        )


class _Drawn(Dataset[Any]):
    """A task's shares, numbered by step and share."""

    def __init__(self, task: Task[Any]) -> None:
        self._task = task

    def __getitem__(self, place: tuple[int, Share]) -> Any:
        try:
            return self._task.draw(*place)
        except QdmMedError as error:  # raised here, it would come back with a traceback for its message
            return error


class _SharesInOrder(Sampler[tuple[int, Share]]):
    """The shares of this process from a step on, without an end."""

    def __init__(self, task: Task[Any], accumulate: int, first: int) -> None:
        self._task, self._accumulate, self._first = task, accumulate, first

    def __iter__(self) -> Iterator[tuple[int, Share]]:
        for step in count(self._first):
            for share in shares_of_process(self._task.size(step), self._accumulate):
                yield step, share
