"""Slices of a run that are looked at afterwards: kept as they are computed, so that none is made twice."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qdm_med.inference.plan import SlicePlan
from qdm_med.inference.upscaler import UpscaledSlice, Upscaler
from qdm_med.volume import CtSlice, Volume


class PlannedSlice(NamedTuple):
    """A slice, read and planned.

    Attributes:
        number: Its number in the volume.
        source: As it was read.
        plan: Its plan.
    """

    number: int
    source: CtSlice
    plan: SlicePlan


@dataclass(frozen=True)
class SeenSlice:
    """A slice as the run made it.

    Attributes:
        number: Its number in the volume.
        source: As it was read.
        plan: Its plan.
        result: Super-resolved slice, with the standard deviation of its samples if there are several.
        seconds: Wall time of the networks for it, in a batch its share.
    """

    number: int
    source: CtSlice
    plan: SlicePlan
    result: UpscaledSlice
    seconds: float


class Watch:
    """Keeper of some slices of a run.

    Args:
        wanted: Numbers of the slices to keep.

    Attributes:
        wanted: Numbers of the slices to keep.
        seen: Kept slices, by number.
    """

    def __init__(self, wanted: Collection[int] = ()) -> None:
        self.wanted = frozenset(wanted)
        self.seen: dict[int, SeenSlice] = {}

    def compute(
        self, upscaler: Upscaler, planned: Sequence[PlannedSlice], *, uncertainty: bool = False
    ) -> list[UpscaledSlice]:
        """Compute some slices as :meth:`qdm_med.inference.upscaler.Upscaler.compute` does, and keep those that are wanted."""
        looked_at = any(one.number in self.wanted for one in planned)
        started = time.perf_counter()
        results = upscaler.compute(
            [one.plan for one in planned], uncertainty=uncertainty or (looked_at and upscaler.samples > 1)
        )
        seconds = (time.perf_counter() - started) / len(planned)
        for one, result in zip(planned, results, strict=True):
            if one.number in self.wanted:
                self.seen[one.number] = SeenSlice(*one, result, seconds)
        return results

    def complete(self, volume: Volume, upscaler: Upscaler) -> list[SeenSlice]:
        """All wanted slices in order; those that an earlier, killed run had finished are made again, to the same pixels."""
        for number in sorted(self.wanted - self.seen.keys()):
            self.compute(upscaler, [plan_slice(volume, upscaler, number)])
        return [self.seen[number] for number in sorted(self.wanted)]


def plan_slice(volume: Volume, upscaler: Upscaler, number: int) -> PlannedSlice:
    """Read and plan a slice."""
    source = volume.slices[number]
    return PlannedSlice(number, source, upscaler.plan(source, volume.provenance.series_key))
