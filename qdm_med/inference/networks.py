"""The networks of a checkpoint on the tiles of planned slices: in batches, on a device, in a precision."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from qdm_med.checkpoints.model import Checkpoint
from qdm_med.diffusion.chain import chain_of
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.sampler import Noise
from qdm_med.diffusion.schedule import trailing_timesteps
from qdm_med.inference.batches import in_batches
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import SlicePlan, Tile
from qdm_med.inference.super_resolution import read_steps, slice_draws, super_resolve

GPU_BATCH_LEAVES = 16 * 4096
"""Active leaves that fill an accelerator: those of sixteen dense tiles of the trained size. A CPU is full with one tile."""

FineTiles = dict[Tile, Tensor]
"""Super-resolved tiles of one slice, ``(1, h, w)`` in [-1, 1] each; a tile without an active leaf is missing."""


class _Asked(NamedTuple):
    """A tile for the networks: the number of its slice among those computed together, and its noise."""

    slice_number: int
    tile: Tile
    noise: SliceNoise


class TileNetworks:
    """Autoencoder and denoiser, ready to super-resolve tiles.

    Args:
        checkpoint: The networks.
        options: Options of the run, settled.
        device: Device of the networks.

    Attributes:
        batch_leaves: Active leaves that are computed together; 0: tile by tile.
        told: Hears, after every batch, which share of the tiles that were asked for is done.
    """

    def __init__(self, checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device) -> None:
        sampling = options.sampling_for(checkpoint.card)
        chain = chain_of(checkpoint.card.schedule)
        self._schedule = chain.respaced(trailing_timesteps(len(chain), sampling.steps))
        self._autoencoder = checkpoint.autoencoder.to(device).to(memory_format=torch.channels_last)
        self._denoiser = checkpoint.require_denoiser().to(device).to(memory_format=torch.channels_last)
        self._steps = read_steps(self._denoiser, self._schedule, device)
        self._scale, self._temperature = options.scale, sampling.temperature
        self._device, self._precision = device, options.precision
        on_device = GPU_BATCH_LEAVES if device.type != "cpu" else 0
        self.batch_leaves = on_device if options.batch_leaves is None else options.batch_leaves
        self.told: Callable[[float], None] = lambda share: None

    def super_resolve(self, plans: Sequence[SlicePlan], samples: Sequence[int]) -> list[FineTiles]:
        """Super-resolve the active tiles of some slices, batch by batch.

        Args:
            plans: What the slices ask for.
            samples: Numbers of the samples whose mean is wanted.
        """
        by_size: dict[tuple[int, int], list[_Asked]] = {}
        for number, plan in enumerate(plans):
            for tile in plan.active_tiles:
                by_size.setdefault(tile.size, []).append(_Asked(number, tile, plan.noise))
        fine: list[FineTiles] = [{} for _ in plans]
        asked_for, done = sum(map(len, by_size.values())), 0
        for same_size in by_size.values():
            for batch in in_batches(same_size, lambda asked: asked.tile.active, self.batch_leaves):
                for asked, image in zip(batch, self._mean(batch, samples), strict=True):
                    fine[asked.slice_number][asked.tile] = image
                done += len(batch)
                self.told(done / asked_for)
        return fine

    def _mean(self, batch: Sequence[_Asked], samples: Sequence[int]) -> Tensor:
        """Super-resolve tiles of one size together, ``(B, 1, h, w)``: the mean of the samples with these numbers."""
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._precision == "bfloat16"):
            fine = super_resolve(
                self._autoencoder,
                self._denoiser,
                torch.stack([asked.tile.image for asked in batch]).to(self._device),
                torch.cat([asked.tile.leaves for asked in batch]).to(self._device),
                scale=self._scale,
                schedule=self._schedule,
                steps=self._steps,
                noises=[self._noise(batch, number) for number in samples],
            )
        rows, columns = batch[0].tile.size  # what was reflected beyond them is no part of the answer
        return fine[..., : rows * self._scale, : columns * self._scale].cpu()

    def _noise(self, batch: Sequence[_Asked], sample: int) -> Noise:
        """Draw the noise of one sample of some tiles."""
        draws = [
            slice_draws(
                replace(asked.noise, sample=asked.noise.sample + sample),
                asked.tile.seen,
                channels=self._denoiser.config.latent_channels,
                scale=self._scale,
                device=self._device,
            )
            for asked in batch
        ]
        return lambda step: self._temperature * torch.cat([draw(step) for draw in draws])
