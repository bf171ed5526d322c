"""``archive verify``: make random slices again from their receipts and compare them."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from qdm_med.archive.books import entries
from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.receipt import Receipt, hashed_inputs
from qdm_med.archive.settings import Settings, changes, versions
from qdm_med.archive.sources import opened, source_files
from qdm_med.device import pick_device
from qdm_med.errors import CheckpointError, ConfigError, DataError, QdmMedError
from qdm_med.inference.runs.scales import Upscalers, load_upscalers
from qdm_med.inference.runs.series import Outputs, derivation_of
from qdm_med.io.pixel_digest import pixel_digests
from qdm_med.io.raster.base import RasterWriter
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
from qdm_med.keys import keyed
from qdm_med.volume import FloatArray, Volume

GPU_TOLERANCE_HU = 1.0
"""On GPUs slices are computed together; one by one they may round to the neighbouring HU."""


@dataclass(frozen=True)
class Verification:
    """Result of a comparison.

    Attributes:
        seed: Seed of the choice; the same seed chooses the same slices.
        series: Series of which slices were made again.
        slices: Slices that were made again.
        tolerance_hu: Largest difference in HU that passes.
        differences: One line for everything that is not as its receipt says.
    """

    seed: int
    series: int
    slices: int
    tolerance_hu: float
    differences: tuple[str, ...]


def verify_archive(folder: ArchiveFolder, checkpoint: Path, *, slices: int, seed: int, device: str) -> Verification:
    """Make slices again, drawn at random from all finished series, and compare them with the output.

    Of every chosen series all inputs and all outputs are hashed, too, and compared with the receipt.

    Args:
        folder: The archive.
        checkpoint: The model that it was made with.
        slices: Number of slices.
        seed: Seed of the choice.
        device: Device to compute on.

    Raises:
        DataError: If no series is finished.
        CheckpointError: If the model is another one.
        ConfigError: If versions are others than those that the series were made with.
    """
    done = [(one.planned, one.receipt) for one in entries(folder) if one.receipt is not None]
    if not done:
        raise DataError(f"{folder.out}: no series is finished; run `qdm-med archive run` first")
    settings = Settings.of_stated(folder.settings() or done[0][1].record["settings"])
    check = _Check(folder, settings, _same_model(settings, checkpoint, device), _tolerance(settings, device))
    chosen = _chosen([receipt.slices for _, receipt in done], slices, seed)
    differences = [line for number, indices in chosen.items() for line in check.differences(*done[number], indices)]
    return Verification(seed, len(chosen), sum(map(len, chosen.values())), check.tolerance, tuple(differences))


def _same_model(settings: Settings, checkpoint: Path, device: str) -> Upscalers:
    if changed := changes(settings.versions, versions()):
        raise ConfigError(
            f"the archive was made with other versions ({'; '.join(changed)}); install those to verify it"
        )
    upscalers = load_upscalers(checkpoint, settings.options, device=device, grid=settings.grid)
    if upscalers.sha256 != settings.model_sha256:
        raise CheckpointError(
            f"{checkpoint}: is not the model {settings.model} that the archive was made with; give it as --checkpoint"
        )
    return upscalers


def _tolerance(settings: Settings, device: str) -> float:
    return 0.0 if settings.device == "cpu" == pick_device(device).type else GPU_TOLERANCE_HU


def _chosen(counts: Sequence[int], slices: int, seed: int) -> dict[int, list[int]]:
    """Draw slices evenly over all of them, by series."""
    drawn = keyed("verify", str(seed)).choice(sum(counts), min(slices, sum(counts)), replace=False)
    ends = np.cumsum(counts)
    chosen: dict[int, list[int]] = defaultdict(list)
    for place in sorted(drawn.tolist()):
        number = int(np.searchsorted(ends, place, side="right"))
        chosen[number].append(place - int(ends[number]) + counts[number])
    return dict(chosen)


@dataclass(frozen=True)
class _Check:
    """Compares series with their receipts."""

    folder: ArchiveFolder
    settings: Settings
    upscalers: Upscalers
    tolerance: float

    def differences(self, series: PlannedSeries, receipt: Receipt, indices: Sequence[int]) -> Iterator[str]:
        """Differences found in one series, a line each."""
        tree = self.folder.planned().tree
        try:
            yield from self._damage(series, receipt)
            with opened(series, tree, self.folder.unpacked) as (source, options):
                volume = read_volume(source, **self.settings.reading, **options)
                inputs = hashed_inputs(source_files(series, tree, volume.provenance.files), tree)
                if {one.sha256 for one in inputs} != {one.sha256 for one in receipt.inputs}:
                    yield f"{series.source}: the source is not what {series.out} was made from"
                    return
                yield from self._recomputed(series, volume, indices)
        except QdmMedError as error:
            yield f"{series.out}: cannot be verified: {error}"

    def _damage(self, series: PlannedSeries, receipt: Receipt) -> Iterator[str]:
        """Outputs whose bytes are no longer those that were written."""
        out = self.folder.out / series.out
        for name, digests in receipt.record["pixels_sha256"].items():
            found = pixel_digests(out.with_name(name))
            for file in sorted(digests.keys() | found.keys()):
                if digests.get(file) != found.get(file):
                    yield f"{series.out}: {file} of {name} is not what was written"

    def _recomputed(self, series: PlannedSeries, volume: Volume, indices: Sequence[int]) -> Iterator[str]:
        """Slices that come out differently when computed again."""
        upscaler, matrix = self.upscalers.fitted(volume.geometry)
        upscaler, out = copy.copy(upscaler), self.folder.out / series.out
        if (limit := self.settings.max_memory) is not None:
            upscaler.keep_below(limit, volume.geometry.shape[1:], uncertainty=self.settings.uncertainty)
        derivation = replace(derivation_of(upscaler), matrix=matrix)
        with TemporaryDirectory() as place:
            writer = open_writer(volume, Path(place) / out.name, derivation, self.settings.writing)
            with writer:
                for index in indices:
                    result = upscaler.upscale_slice(volume.slices[index], volume.provenance.series_key)
                    Outputs(writer, matrix=matrix).write(index, result)
                    again, there = _hu_of_slice(writer, index), _hu_of_output(out, index)
                    apart = np.abs(again - there)
                    if (wrong := int((apart > self.tolerance).sum())) or again.shape != there.shape:
                        yield (
                            f"{series.out}: slice {index + 1} comes out differently in {wrong} pixels, "
                            f"by up to {apart.max():g} HU"
                        )


def _hu_of_slice(writer: Any, index: int) -> FloatArray:
    """HU of a slice that waits in a writer to be put in place."""
    path = writer.slice_path(index)
    if isinstance(writer, RasterWriter):
        plane = np.fromfile(path, dtype=writer.dtype).reshape(writer.geometry.shape[1:])
        return np.nan_to_num(plane.astype(np.float32))
    return read_volume(path, force=True).slices[0].hu


def _hu_of_output(out: Path, index: int) -> FloatArray:
    """HU of one slice of a finished output."""
    if out.is_dir():
        return read_volume(sorted(out.iterdir())[index], force=True).slices[0].hu
    slices: Any = read_volume(out, force=True).slices
    return np.nan_to_num(np.asarray(slices.read_plane(index), dtype=np.float32))
