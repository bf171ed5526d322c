"""One scan of a tree: its series, their places in the output, and their cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.manifest import Manifest, PlannedSeries
from qdm_med.archive.places import with_places
from qdm_med.archive.settings import Settings
from qdm_med.archive.sources import opened, series_under
from qdm_med.errors import DataError, QdmMedError
from qdm_med.inference.memory import peak_bytes
from qdm_med.inference.runs.estimate import estimate_volume
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.dicom.file import shown
from qdm_med.io.read import read_volume

TRIED = 3
"""Series that are opened until one can be timed."""


def plan_archive(tree: Path, folder: ArchiveFolder, upscaler: Upscaler, settings: Settings) -> Manifest:
    """Scan a tree and write the plan; nothing is computed but one tile, which tells the speed.

    Args:
        tree: Folder with CT series at any depth.
        folder: Folder of the outputs.
        upscaler: The model.
        settings: Settings of every series.

    Raises:
        DataError: If there is no CT series that can be super-resolved, or the output belongs to another tree.
        SeriesError: If the tree cannot be read or the plan not be written.
    """
    root = tree.resolve()
    earlier = _earlier_places(folder, root)
    found = series_under(root, folder.unpacked, exclude=folder.out, reading=settings.reading)
    placed = with_places(found, root.name, settings.options.scale, earlier)
    if all(one.refused for one in placed):
        raise DataError(f"{shown(tree)}: no CT series that can be super-resolved; {_refusals(placed)}")
    costed = _with_costs(placed, root, folder, upscaler, settings)
    manifest = Manifest(root, datetime.now(UTC).isoformat(timespec="microseconds"), tuple(costed))
    manifest.write(folder.manifest)
    return manifest


def _earlier_places(folder: ArchiveFolder, tree: Path) -> Mapping[str, str]:
    """Places from an earlier scan, which their series keep."""
    if not folder.manifest.exists():
        return {}
    earlier = folder.planned()
    if earlier.tree != tree:
        raise DataError(f"{shown(folder.out)}: holds the series of {shown(earlier.tree)}; choose another --out")
    return {one.id: one.out for one in earlier.accepted}


def _refusals(found: list[PlannedSeries]) -> str:
    if not found:
        return "there is nothing that could be one"
    return f"{len(found)} were refused, the first: {found[0].refused}"


def _with_costs(
    placed: list[PlannedSeries], tree: Path, folder: ArchiveFolder, upscaler: Upscaler, settings: Settings
) -> list[PlannedSeries]:
    rate = _seconds_a_pixel([one for one in placed if not one.refused], tree, folder, upscaler, settings)
    a_pixel = upscaler.scale**2 * (6 if settings.uncertainty else 2)  # int16, and float32 for the uncertainty

    def cost(one: PlannedSeries) -> PlannedSeries:
        pixels = one.slices * one.shape[0] * one.shape[1]
        needed = peak_bytes(upscaler.card, one.shape, upscaler.tiling, upscaler.scale, uncertainty=settings.uncertainty)
        memory = needed if settings.max_memory is None else min(needed, settings.max_memory)
        return replace(one, output_bytes=pixels * a_pixel, memory_bytes=memory, seconds=round(pixels * rate, 3))

    return [one if one.refused else cost(one) for one in placed]


def _seconds_a_pixel(
    accepted: list[PlannedSeries], tree: Path, folder: ArchiveFolder, upscaler: Upscaler, settings: Settings
) -> float:
    """Seconds a source pixel takes here, measured on a series of middle size; 0 if none of those tried can be read."""
    by_size = sorted(accepted, key=lambda one: one.slices * one.shape[0] * one.shape[1])
    middle = len(by_size) // 2
    for one in by_size[middle : middle + TRIED]:
        try:
            with opened(one, tree, folder.unpacked) as (source, options):
                volume = read_volume(source, **settings.reading, **options)
                estimate = estimate_volume(volume, upscaler, uncertainty=settings.uncertainty)
        except QdmMedError:
            continue
        return estimate.seconds / (estimate.slices * estimate.shape[0] * estimate.shape[1])
    return 0.0
