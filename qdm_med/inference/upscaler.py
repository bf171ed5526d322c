"""Slices of a CT volume, super-resolved one by one in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qdm_med.checkpoints.model import Checkpoint, default_checkpoint, load_checkpoint
from qdm_med.device import pick_device
from qdm_med.diffusion.chain import chain_of
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.sampler import Noise
from qdm_med.diffusion.schedule import trailing_timesteps
from qdm_med.errors import ConfigError
from qdm_med.inference.consistency import back_projected
from qdm_med.inference.fusion import GaussianTileFusion, fade_in
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import MARGIN, Region, SliceWork, Tile, WorkPlanner
from qdm_med.inference.runs.memory import tile_within
from qdm_med.inference.spread import RunningSpread
from qdm_med.inference.super_resolution import read_steps, slice_draws, super_resolve
from qdm_med.inference.tiling import Tiling
from qdm_med.models.conditioning import upsample
from qdm_med.volume import BoolArray, CtSlice, FloatArray

GPU_BATCH_LEAVES = 16 * 4096
"""Active leaves that fill an accelerator: those of sixteen dense tiles of the trained size. A CPU is full with one tile."""


@dataclass(frozen=True)
class UpscaledSlice:
    """A super-resolved slice.

    Attributes:
        hu: ``(scale rows, scale columns)`` float32 HU; where the source is padding, plausible but meaningless.
        leaves: ``(rows, columns)`` bool, active leaves on the source's grid: where detail was generated.
        windows: Downstream windows that were computed.
        windows_in_all: Downstream windows that a dense network would have computed.
        std_hu: ``(scale rows, scale columns)`` float32, standard deviation in HU of the samples behind ``hu``, each
            finished as a slice of its own, calibrated if the model knows how; ``None`` if it was not asked for.
            Meaningless where ``hu`` is.
    """

    hu: FloatArray
    leaves: BoolArray
    windows: int
    windows_in_all: int
    std_hu: FloatArray | None = None


class Job(NamedTuple):
    """A slice that is planned and not yet computed.

    Attributes:
        work: What it asks for.
        noise: Its noise.
    """

    work: SliceWork
    noise: SliceNoise


class Upscaler:
    """A checkpoint ready to super-resolve slices.

    Args:
        checkpoint: Autoencoder and denoiser.
        options: How to run them.
        device: Where to run them.

    Raises:
        CheckpointError: If the checkpoint has no denoiser or was trained for other scales.
        ConfigError: If steps, quadtree or tile are out of range.
    """

    def __init__(self, checkpoint: Checkpoint, options: UpscaleOptions, *, device: torch.device) -> None:
        self.card, self.sha256 = checkpoint.card, checkpoint.sha256
        denoiser = checkpoint.require_denoiser()
        self.options = options.settled_for(self.card)
        self.scale, self.seed = options.scale, options.seed
        self.mode, self.consistency = options.mode, options.consistency
        self.steps, self.samples, self.temperature = self.options.sampling_for(self.card)
        self.spread_calibration = options.spread_calibration_for(self.card)
        self.quadtree = options.quadtree_for(self.card)
        self.planner = WorkPlanner(
            self.card.intensity, self.quadtree, options.tiling_for(self.card), self.scale, denoiser.config
        )
        schedule = chain_of(self.card.schedule)
        self._schedule = schedule.respaced(trailing_timesteps(len(schedule), self.steps))
        self._autoencoder = checkpoint.autoencoder.to(device).to(memory_format=torch.channels_last)
        self._denoiser = denoiser.to(device).to(memory_format=torch.channels_last)
        self._steps = read_steps(self._denoiser, self._schedule, device)
        self._device = device
        self._precision = options.precision
        on_device = GPU_BATCH_LEAVES if device.type != "cpu" else 0
        self.batch_leaves = on_device if options.batch_leaves is None else options.batch_leaves

    @property
    def tiling(self) -> Tiling:
        """Tiles of a large slice."""
        return self.planner.tiling

    def keep_below(self, limit: int, shape: tuple[int, int], *, uncertainty: bool = False) -> None:
        """Make the tiles small enough for slices of ``shape`` source pixels to need at most ``limit`` bytes.

        Raises:
            ConfigError: If even the smallest tiles need more.
        """
        tiling = tile_within(self.card, shape, self.tiling, self.scale, limit, uncertainty=uncertainty)
        self.planner = replace(self.planner, tiling=tiling)
        self.options = replace(self.options, tile=tiling.tile)

    def require_samples(self) -> None:
        """Refuse to tell how far samples lie apart where there is one.

        Raises:
            ConfigError: If fewer than two samples are drawn.
        """
        if self.samples < 2:
            raise ConfigError(
                f"uncertainty needs at least 2 samples, got {self.samples}; add --samples 4 or another number"
            )

    def upscale_slice(self, ct_slice: CtSlice, series_key: str, *, uncertainty: bool = False) -> UpscaledSlice:
        """Super-resolve one slice.

        Args:
            ct_slice: Slice of any size, sides of 1 pixel included.
            series_key: Identity of its series, from which its noise is keyed.
            uncertainty: Whether the standard deviation of the samples is wanted, too.

        Raises:
            ConfigError: If it is wanted of fewer than two samples.
        """
        return self.compute([self.plan(ct_slice, series_key)], uncertainty=uncertainty)[0]

    def plan(self, ct_slice: CtSlice, series_key: str) -> Job:
        """Work out what a slice asks for; arguments as for :meth:`upscale_slice`."""
        return Job(self.planner.plan(ct_slice), SliceNoise(self.seed, series_key, ct_slice.position_mm))

    def compute(self, jobs: Sequence[Job], *, uncertainty: bool = False) -> list[UpscaledSlice]:
        """Do what was planned for some slices.

        Tiles of one size go through the networks together, as many as ``batch_leaves`` allows. A slice's HU do not depend
        on its companions beyond the rounding of float32; with ``batch_leaves`` 0 not at all. Nor do they depend on
        ``uncertainty``, for which all slices of ``jobs`` are held in memory at once.

        Raises:
            ConfigError: If uncertainty is wanted of fewer than two samples.
        """
        if uncertainty:
            self.require_samples()
            return self._compute_with_uncertainty(jobs)
        fine = self._tiles(jobs, partial(self._mean, numbers=range(self.samples)))
        return [self._finish(job.work, fine[number]) for number, job in enumerate(jobs)]

    def _compute_with_uncertainty(self, jobs: Sequence[Job]) -> list[UpscaledSlice]:
        """Finish every sample by itself, for its spread, and then their mean: sample by sample over all tiles."""
        totals: list[dict[Tile, Tensor]] = [{} for _ in jobs]
        spreads = [RunningSpread(self._fine_shape(job.work)) for job in jobs]
        for number in range(self.samples):
            fine = self._tiles(jobs, partial(self._mean, numbers=(number,)))
            for job, total, own, spread in zip(jobs, totals, fine, spreads, strict=True):
                if own:
                    spread.add(self._finish(job.work, own).hu)
                for tile, image in own.items():
                    total[tile] = total[tile] + image if tile in total else image
        results = []
        for job, total, spread in zip(jobs, totals, spreads, strict=True):
            result = self._finish(job.work, {tile: image / self.samples for tile, image in total.items()})
            # Where no network is asked all samples are the same.
            std = spread.std() if total else np.zeros(result.hu.shape, dtype=np.float32)
            calibration = self.spread_calibration
            results.append(replace(result, std_hu=calibration.apply(std) if calibration else std))
        return results

    def _finish(self, work: SliceWork, fine: Mapping[Tile, Tensor]) -> UpscaledSlice:
        low, high = self.card.intensity.hu_range
        inside = np.clip(work.source, low, high)
        answer = self.card.intensity.to_hu(self._fuse(work, fine).numpy())
        hu = back_projected(answer, inside, self.scale, self.consistency)
        # Beyond the mapped range (metal on an extended scale) there is no network: those HU are magnified as they are.
        if (work.source != inside).any():
            hu = hu + np.kron(work.source - inside, np.ones((self.scale, self.scale), dtype=np.float32))
        return UpscaledSlice(hu, work.leaves, work.windows, work.windows_in_all)

    def _fuse(self, work: SliceWork, fine: Mapping[Tile, Tensor]) -> Tensor:
        """``(scale H, scale W)`` image: the interpolated source, and the fused tiles where there is something to add."""
        if fine and work.is_one_tile:
            return fine[work.tiles[0]][0]
        plain = interpolated(work.image, self.scale)[0]
        if not fine:
            return plain
        box = self._fine(work.box)
        answer = fine[work.tiles[0]][0] if len(work.tiles) == 1 else self._fuse_tiles(work, fine, plain).to(plain.dtype)
        plain[box] += fade_in(work.box, work.source.shape, margin=MARGIN, scale=self.scale) * (answer - plain[box])
        return plain

    def _fuse_tiles(self, work: SliceWork, fine: Mapping[Tile, Tensor], plain: Tensor) -> Tensor:
        """``(h, w)`` float64 of the box; tiles without an active leaf are taken from ``plain``."""
        fusion = GaussianTileFusion((1, *((side.stop - side.start) * self.scale for side in work.box)))
        for tile in work.tiles:
            top, left = (side.start - start.start for side, start in zip(tile.region, work.box, strict=True))
            added = fine[tile] if tile in fine else plain[self._fine(tile.region)][None]
            fusion.add(added, top * self.scale, left * self.scale)
        return fusion.result()[0]

    def _fine(self, region: Region) -> tuple[slice, slice]:
        """A source region on the grid of the output."""
        rows, columns = (slice(side.start * self.scale, side.stop * self.scale) for side in region)
        return rows, columns

    def _fine_shape(self, work: SliceWork) -> tuple[int, int]:
        rows, columns = work.source.shape
        return rows * self.scale, columns * self.scale

    def _tiles(
        self, jobs: Sequence[Job], super_resolved: Callable[[Sequence[tuple[Job, Tile]]], Tensor]
    ) -> list[dict[Tile, Tensor]]:
        """Super-resolve the active tiles of all jobs, batch by batch; ``(1, h, w)`` each."""
        by_size: dict[tuple[int, int], list[tuple[int, Tile]]] = {}
        for number, job in enumerate(jobs):
            for tile in job.work.active_tiles:
                by_size.setdefault(tile.size, []).append((number, tile))
        fine: list[dict[Tile, Tensor]] = [{} for _ in jobs]
        for same_size in by_size.values():
            for batch in self._batches(same_size):
                answer = super_resolved([(jobs[number], tile) for number, tile in batch])
                for (number, tile), image in zip(batch, answer, strict=True):
                    fine[number][tile] = image
        return fine

    def _batches(self, tiles: Sequence[tuple[int, Tile]]) -> Iterator[list[tuple[int, Tile]]]:
        batch: list[tuple[int, Tile]] = []
        for each in tiles:
            batch.append(each)
            if sum(tile.active for _, tile in batch) >= self.batch_leaves:
                yield batch
                batch = []
        if batch:
            yield batch

    def _mean(self, tiles: Sequence[tuple[Job, Tile]], numbers: Sequence[int]) -> Tensor:
        """Super-resolve tiles of one size together, ``(B, 1, h, w)``: the mean of the samples of these numbers."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            fine = super_resolve(
                self._autoencoder,
                self._denoiser,
                torch.stack([tile.image for _, tile in tiles]).to(self._device),
                torch.cat([tile.leaves for _, tile in tiles]).to(self._device),
                scale=self.scale,
                schedule=self._schedule,
                steps=self._steps,
                noises=[self._noise(tiles, number) for number in numbers],
            )
        rows, columns = tiles[0][1].size  # what was reflected beyond them is no part of the answer
        return fine[..., : rows * self.scale, : columns * self.scale].cpu()

    def _noise(self, tiles: Sequence[tuple[Job, Tile]], number: int) -> Noise:
        """Draws of one sample of some tiles."""
        draws = [
            slice_draws(
                replace(job.noise, sample=number),
                tile.seen,
                channels=self.card.autoencoder.latent_channels,
                scale=self.scale,
                device=self._device,
            )
            for job, tile in tiles
        ]
        return lambda step: self.temperature * torch.cat([draw(step) for draw in draws])


def interpolated(image: Tensor, scale: int) -> Tensor:
    """``(1, H, W)`` in [-1, 1] -> ``(1, scale H, scale W)``: what stands where nothing is refined."""
    return upsample(image[None], scale)[0].clamp(-1, 1)


def load_upscaler(
    checkpoint: Path | None = None, options: UpscaleOptions | None = None, *, device: str = "auto"
) -> Upscaler:
    """Load a checkpoint, by default the one that ships with the package, ready to run.

    Raises:
        CheckpointError: If the file is missing, damaged or does not serve.
        ConfigError: If an option or the device does not serve.
    """
    target = pick_device(device)
    return Upscaler(load_checkpoint(checkpoint or default_checkpoint()), options or UpscaleOptions(), device=target)
