"""Progress of a run tile by tile: whoever waits for a slice of minutes sees that it moves."""

from __future__ import annotations

from collections.abc import Callable

from qdm_med.inference.upscaler import UpscaledSlice, Upscaler

Tell = Callable[[float, int, UpscaledSlice | None], None]
"""``(slices done, a share of the next one included; slices in all; the slice that was just written, if it is one)``."""


class ByTile:
    """Progress of one run, to be given to :func:`qdm_med.inference.runs.series.upscale_volume`.

    Slices count while they are computed, and are written a little later; the count never goes back, and reaches all only when
    all are written.

    Args:
        upscaler: The one that the run uses; it tells this object of its tiles from now on.
        tell: Takes the count.
    """

    def __init__(self, upscaler: Upscaler, tell: Tell) -> None:
        self._upscaler, self._tell = upscaler, tell
        self._before: float | None = None
        self._done, self._total = 0.0, 0
        upscaler.told = self._tiles

    def __call__(self, done: int, total: int, result: UpscaledSlice | None) -> None:
        """Take what the run tells of whole slices."""
        if self._before is None:
            self._before = done - self._upscaler.computed
        self._done, self._total = max(self._done, done), total
        self._tell(self._done, total, result)

    def _tiles(self, computed: float) -> None:
        done = computed + (self._before or 0.0)
        if self._before is not None and self._done < done < self._total:
            self._done = done
            self._tell(done, self._total, None)
