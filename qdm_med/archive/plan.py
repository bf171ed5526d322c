"""One scan of a tree: its series, their places in the output, and their cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.manifest import Manifest, PlannedSeries
from qdm_med.archive.places import with_places
from qdm_med.archive.settings import Settings
from qdm_med.archive.sources import opened, series_under
from qdm_med.errors import ConfigError, DataError, QdmMedError
from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.runs.estimate import estimate_volume
from qdm_med.inference.runs.scales import Fitted, Upscalers
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.dicom.file import shown
from qdm_med.io.read import read_volume
from qdm_med.volume import Geometry

DASK_BYTES = 128 * 2**20
"""Memory of a worker besides the run's: Dask, and freed blocks that wait for the next tensor."""

TRIED = 3
"""Series that are opened until one can be timed."""


def plan_archive(tree: Path, folder: ArchiveFolder, upscalers: Upscalers, settings: Settings) -> Manifest:
    """Scan a tree and write the plan; nothing is computed but a tile of each magnification, which tells the speed.

    Args:
        tree: Folder with CT series at any depth.
        folder: Folder of the outputs.
        upscalers: The model, and the grid of the outputs.
        settings: Settings of every series.

    Raises:
        DataError: If there is no CT series that can be super-resolved, or the output belongs to another tree.
        SeriesError: If the tree cannot be read or the plan not be written.
    """
    planner = _Planner(tree.resolve(), folder, upscalers, settings)
    earlier = _earlier_places(folder, planner.tree, settings)
    found = series_under(planner.tree, folder.unpacked, exclude=folder.out, reading=settings.reading)
    fitted = [planner.on_grid(one) for one in found]
    placed = with_places(fitted, planner.tree.name, planner.scale, earlier)
    if all(one.refused for one in placed):
        raise DataError(f"{shown(tree)}: no CT series that can be super-resolved; {_refusals(placed)}")
    scanned = datetime.now(UTC).isoformat(timespec="microseconds")
    manifest = Manifest(planner.tree, scanned, tuple(planner.with_costs(placed)), settings.planning)
    manifest.write(folder.manifest)
    return manifest


def _earlier_places(folder: ArchiveFolder, tree: Path, settings: Settings) -> Mapping[str, str]:
    """Places from an earlier scan, which their series keep; not those of a mere plan with other settings."""
    if not folder.manifest.exists():
        return {}
    earlier = folder.planned()
    if earlier.tree != tree:
        raise DataError(f"{shown(folder.out)}: holds the series of {shown(earlier.tree)}; choose another --out")
    if folder.settings() is None and not earlier.is_asked_with(settings.planning):
        return {}
    return {one.id: one.out for one in earlier.accepted}


def _refusals(found: list[PlannedSeries]) -> str:
    if not found:
        return "there is nothing that could be one"
    return f"{len(found)} were refused, the first: {found[0].refused}"


@dataclass(frozen=True)
class _Planner:
    """Planner of series: what each becomes, and at what cost."""

    tree: Path
    folder: ArchiveFolder
    upscalers: Upscalers
    settings: Settings

    def on_grid(self, one: PlannedSeries) -> PlannedSeries:
        """Note the matrix of a series on the grid that is asked for, or refuse it."""
        try:
            return one if one.refused else replace(one, matrix=self._fitted(one).matrix)
        except ConfigError as error:
            return replace(one, refused=str(error))

    def scale(self, one: PlannedSeries) -> int:
        """Magnification of an accepted series."""
        return self._fitted(one).upscaler.scale

    def with_costs(self, placed: Sequence[PlannedSeries]) -> list[PlannedSeries]:
        """Add bytes, memory and seconds to the accepted series."""
        by_scale = defaultdict(list)
        for one in placed:
            if not one.refused:
                by_scale[self.scale(one)].append(one)
        rates = {scale: self._seconds_a_pixel(series, self.upscalers.at(scale)) for scale, series in by_scale.items()}
        return [one if one.refused else self._with_cost(one, rates[self.scale(one)]) for one in placed]

    def _fitted(self, one: PlannedSeries) -> Fitted:
        """Magnification of a series; one whose header does not say its grid is met when it is read."""
        if not all((*one.shape, *one.spacing_mm)):
            return Fitted(self.upscalers.all()[0], None)
        return self.upscalers.fitted(Geometry((one.slices, *one.shape), np.diag([1.0, *one.spacing_mm, 1.0])))

    def _with_cost(self, one: PlannedSeries, rate: float) -> PlannedSeries:
        upscaler, matrix = self._fitted(one)
        rows, columns = one.shape
        fine = one.slices * math.prod(matrix or (rows * upscaler.scale, columns * upscaler.scale))
        spread, limit = self.settings.uncertainty, self.settings.max_memory
        needed = peak_bytes(upscaler.card, one.shape, upscaler.tiling, upscaler.scale, uncertainty=spread)
        return replace(
            one,
            output_bytes=fine * (6 if spread else 2),  # int16, and float32 for the uncertainty
            memory_bytes=DASK_BYTES + (needed if limit is None else min(needed, limit)),
            seconds=round(one.slices * rows * columns * rate, 3),
        )

    def _seconds_a_pixel(self, accepted: Sequence[PlannedSeries], upscaler: Upscaler) -> float:
        """Seconds a source pixel takes here, measured on a series of middle size; 0 if none of those tried can be read."""
        by_size = sorted(accepted, key=lambda one: one.slices * one.shape[0] * one.shape[1])
        middle = len(by_size) // 2
        for one in by_size[middle : middle + TRIED]:
            try:
                with opened(one, self.tree, self.folder.unpacked) as (source, options):
                    volume = read_volume(source, **self.settings.reading, **options)
                    estimate = estimate_volume(volume, upscaler, uncertainty=self.settings.uncertainty)
            except QdmMedError:
                continue
            return estimate.seconds / (estimate.slices * estimate.shape[0] * estimate.shape[1])
        return 0.0
