"""Progress on stderr, so that stdout holds the result alone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from qdm_med.inference.series import UpscaleSummary
    from qdm_med.inference.upscale import UpscaledSlice


class SliceProgress:
    """A bar with slices, active windows and time left; silent where stderr is no terminal."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("slices"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[windows]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not sys.stderr.isatty(),
        )
        self._task = self._bar.add_task("slices", total=None, windows="")

    def __enter__(self) -> SliceProgress:
        """Show the bar."""
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()

    def update(self, done: int, total: int, ct_slice: UpscaledSlice | None) -> None:
        """Move the bar to ``done`` of ``total`` slices."""
        windows = f"windows {ct_slice.windows}/{ct_slice.windows_in_all}" if ct_slice else ""
        self._bar.update(self._task, completed=done, total=total, windows=windows)


def summary_line(summary: UpscaleSummary, scale: int) -> str:
    """One line that says what was done; warnings in lines of their own before it."""
    resumed = f" ({summary.resumed} of them from an earlier run)" if summary.resumed else ""
    lines = [f"warning: {warning}" for warning in summary.warnings]
    lines.append(
        f"{summary.slices} slices{resumed} at x{scale} in {summary.seconds:.1f} s, "
        f"{summary.active_leaves:.0%} of leaves and {summary.active_windows:.0%} of windows active: {summary.out}"
    )
    return "\n".join(lines)
