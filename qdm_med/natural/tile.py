"""Low-resolution tiles of photographs through a trained model: encode once, sample, decode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.sampler import Noise
from qdm_med.diffusion.schedule import ResidualShiftSchedule, trailing_timesteps
from qdm_med.inference.padding import in_whole_windows
from qdm_med.inference.super_resolution import read_steps, slice_draws, super_resolve
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.autoencoder.vq import VqAutoencoder
from qdm_med.models.conditioning import active_leaves, leaf_grid
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.models.qdm.quadtree import PaperQuadtree
from qdm_med.natural.checkpoint import NaturalCard

Region = tuple[slice, slice]
"""Rows and columns in low-resolution pixels."""


@dataclass(frozen=True)
class TileCount:
    """Counts of the work on tiles.

    Attributes:
        active: Active leaves.
        leaves: Leaves in all.
        windows: Downstream windows that contain one.
        windows_in_all: Downstream windows in all.
    """

    active: int = 0
    leaves: int = 0
    windows: int = 0
    windows_in_all: int = 0

    def __add__(self, other: TileCount) -> TileCount:
        """Add the counts."""
        return TileCount(
            self.active + other.active,
            self.leaves + other.leaves,
            self.windows + other.windows,
            self.windows_in_all + other.windows_in_all,
        )


class TileModel:
    """VQGAN and denoiser with their schedule.

    Args:
        autoencoder: VQGAN, on the device.
        denoiser: Denoiser, on the device.
        card: Schedule, scale, and default steps and threshold.
        device: Device of both.
        seed: Key of the noise.
        steps: Sampling steps; ``None``: the card's.
        threshold: Quadtree threshold; ``None``: the card's.
    """

    def __init__(
        self,
        autoencoder: VqAutoencoder,
        denoiser: TwoStreamDenoiser,
        card: NaturalCard,
        *,
        device: torch.device,
        seed: int = 0,
        steps: int | None = None,
        threshold: float | None = None,
    ) -> None:
        self._autoencoder, self._denoiser, self._device, self._seed = autoencoder, denoiser, device, seed
        self.scale, self.latent_channels = card.scale, card.autoencoder.latent_channels
        self.steps = card.steps if steps is None else steps
        self._quadtree = PaperQuadtree(card.threshold if threshold is None else threshold)
        schedule = ResidualShiftSchedule.from_config(card.schedule)
        self._schedule = schedule.respaced(trailing_timesteps(len(schedule), self.steps))
        self._steps = read_steps(denoiser, self._schedule, device)

    def _whole_windows(self, tiles: Tensor) -> Tensor:
        """Reflect tiles at their lower and right border up to whole windows."""
        return in_whole_windows(tiles, max(1, self._denoiser.config.window_size * DOWNSAMPLING // self.scale))

    def _leaves(self, tiles: Tensor) -> Tensor:
        """Mark the active leaves of ``(B, 3, h, w)`` tiles, ``(B, rows, columns)`` bool."""
        size = (tiles.shape[-2], tiles.shape[-1])
        return active_leaves(tiles, self._quadtree, leaf_grid(size, self.scale, self._denoiser.config.downstream_patch))

    def count(self, tiles: Tensor) -> TileCount:
        """Count the work that ``(B, 3, h, w)`` tiles ask for."""
        leaves = self._leaves(self._whole_windows(tiles))
        plan = self._denoiser.plan(leaves)
        return TileCount(int(leaves.sum()), leaves.numel(), plan.window_count, plan.windows_in_all)

    def __call__(self, tiles: Tensor, regions: Sequence[Region], key: str) -> Tensor:
        """Super-resolve tiles of one photograph.

        Args:
            tiles: ``(B, 3, h, w)`` in [-1, 1], on any device.
            regions: Where each lies in the photograph: neighbours draw the same noise where they overlap.
            key: Identity of the photograph.

        Returns:
            ``(B, 3, scale h, scale w)`` float32 in [-1, 1], on the device.
        """
        height, width = tiles.shape[-2:]
        seen = self._whole_windows(tiles).to(self._device)
        fine = super_resolve(
            self._autoencoder,
            self._denoiser,
            seen,
            self._leaves(seen),
            scale=self.scale,
            schedule=self._schedule,
            steps=self._steps,
            noises=(self._noise(regions, (seen.shape[-2], seen.shape[-1]), key),),
        )
        return fine[..., : height * self.scale, : width * self.scale]

    def _noise(self, regions: Sequence[Region], size: tuple[int, int], key: str) -> Noise:
        noise = SliceNoise(self._seed, key, 0.0)
        seen = [
            (slice(rows.start, rows.start + size[0]), slice(columns.start, columns.start + size[1]))
            for rows, columns in regions
        ]
        draws = [
            slice_draws(noise, region, channels=self.latent_channels, scale=self.scale, device=self._device)
            for region in seen
        ]
        return lambda number: torch.cat([draw(number) for draw in draws])

    def whole(self, image: Tensor, key: str) -> Tensor:
        """Super-resolve ``(3, h, w)`` at once, ``(3, scale h, scale w)``."""
        height, width = image.shape[-2:]
        return self(image[None], [(slice(0, height), slice(0, width))], key)[0]
