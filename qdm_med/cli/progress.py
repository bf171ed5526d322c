"""Progress on stderr: stdout holds the result alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from qdm_med.cli.talk import TALK, Lines

if TYPE_CHECKING:
    from qdm_med.inference.runs.estimate import Estimate
    from qdm_med.inference.runs.series import UpscaleSummary
    from qdm_med.inference.upscaler import UpscaledSlice


class CountProgress:
    """Bar with the count, the total and the time left; without a terminal, lines if they are asked for.

    It appears with the first :meth:`update` and stands still when all is done.

    Args:
        what: What is counted.
        before: What is done before there is anything to count; the bar then appears at once.
    """

    def __init__(self, what: str, before: str = "") -> None:
        self._before = before
        self._bar = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not TALK.bars,
        )
        self._lines = Lines(what)
        self._task = self._bar.add_task(what, total=None, detail="")

    def __enter__(self) -> Self:
        """Prepare the bar, or the lines in its place."""
        if self._before:
            self._bar.update(self._task, detail=self._before)
            self._bar.start()
            if TALK.lines:
                TALK.progress(self._before)
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the terminal as it was."""
        self._stop()

    def update(self, done: float, total: int, detail: str = "") -> None:
        """Move the bar to ``done`` of ``total``; a share of the next one counts, and less than before begins anew."""
        if done < self._bar.tasks[self._task].completed:
            self._bar.reset(self._task)
        if not self._bar.live.is_started and done < total:
            self._bar.start()
        self._bar.update(self._task, completed=done, total=total, detail=detail)
        self._lines.update(done, total, detail)

    def say(self, line: str, *, err: bool = False) -> None:
        """Print a line on stdout or stderr without running into the bar."""
        self._stop()
        typer.echo(line, err=err)
        TALK.note(line)

    def _stop(self) -> None:
        if self._bar.live.is_started:  # rich 13 ends with an empty line a bar that was never shown
            self._bar.stop()


class SliceProgress(CountProgress):
    """Bar of an upscaling, which shows the active windows of the last slice."""

    def __init__(self) -> None:
        super().__init__("slices")
        self._detail = ""

    def slices(self, done: float, total: int, ct_slice: UpscaledSlice | None) -> None:
        """Move the bar on; see :class:`qdm_med.inference.runs.by_tile.ByTile`."""
        if ct_slice:
            self._detail = f"windows {ct_slice.windows}/{ct_slice.windows_in_all}"
        self.update(done, total, self._detail)


@contextmanager
def stage(what: str) -> Iterator[None]:
    """Name the work under way before there is anything to count."""
    if TALK.lines:
        TALK.progress(what)
    if not TALK.bars:
        yield
        return
    with Console(stderr=True).status(what):
        yield


def summary_line(summary: UpscaleSummary) -> str:
    """Summarise a run in one line, with its warnings in lines of their own before it."""
    resumed = f" ({summary.resumed} of them from an earlier run)" if summary.resumed else ""
    lines = [f"warning: {warning}" for warning in summary.warnings]
    lines.append(
        f"{summary.slices} slices{resumed} {summary.told()}, "
        f"{summary.active_leaves:.0%} of leaves and {summary.active_windows:.0%} of windows active: {summary.out}"
        + (f", uncertainty: {summary.uncertainty}" if summary.uncertainty else "")
    )
    return "\n".join(lines)


def estimate_line(estimate: Estimate, measured: tuple[tuple[str, str], ...] = ()) -> str:
    """Describe in one line what a run would do, and what was measured in the source."""
    rows, columns = estimate.shape
    averaged = f" averaged to {estimate.matrix[0]}x{estimate.matrix[1]}" if estimate.matrix else ""
    return (
        f"{estimate.slices} slices of {rows}x{columns} at x{estimate.scale}{averaged}, about {estimate.empty_slices} of them empty: "
        f"{estimate.active_leaves:.0%} of leaves active, {estimate.windows} of {estimate.windows_in_all} windows, "
        f"about {estimate.seconds:.0f} s, at most {estimate.memory_bytes / 2**30:.1f} GiB of memory, "
        f"{estimate.output_bytes / 2**30:.2f} GiB of pixels; "
        + "".join(f"{name} {value}; " for name, value in measured)
        + "nothing was written"
    )
