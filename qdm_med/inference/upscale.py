"""Slices of a CT volume, super-resolved one by one in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from qdm_med.checkpoint import Checkpoint, default_checkpoint, load_checkpoint
from qdm_med.device import pick_device
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.schedule import ResidualShiftSchedule, trailing_timesteps
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.inference.consistency import agree_with_source
from qdm_med.inference.fusion import GaussianTileFusion
from qdm_med.inference.padding import fill_padding
from qdm_med.inference.super_resolution import SuperResolved, slice_draws, super_resolve
from qdm_med.inference.tiling import OVERLAP, Tiling
from qdm_med.models.autoencoder import DOWNSAMPLING
from qdm_med.models.quadtree import PaperQuadtree
from qdm_med.volume import BoolArray, CtSlice, FloatArray


@dataclass(frozen=True)
class UpscaleOptions:
    """How to run a checkpoint.

    Attributes:
        scale: Magnification along rows and columns.
        seed: Key of the noise; the same seed gives the same images.
        steps: Sampling steps; ``None``: the checkpoint's default for the scale.
        threshold: Quadtree threshold s; ``None``: the checkpoint's default; 0 refines everything.
        tile: Side of a tile in source pixels; ``None``: what makes latents of the trained size, 128 at x4 and 64 at x8.
            Slices that fit into one tile do not depend on it.
    """

    scale: int = 4
    seed: int = 0
    steps: int | None = None
    threshold: float | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        """Reject numbers out of range."""
        if self.seed < 0:
            raise ConfigError(f"seed must not be negative, got {self.seed}")
        if self.threshold is not None and not 0 <= self.threshold <= 2:
            raise ConfigError(f"threshold must lie in [0, 2], the range of the network's values, got {self.threshold}")


@dataclass(frozen=True)
class UpscaledSlice:
    """A super-resolved slice.

    Attributes:
        hu: ``(scale rows, scale columns)`` float32 HU; where the source is padding, plausible but meaningless.
        leaves: ``(rows, columns)`` bool, active leaves on the source's grid: where detail was generated.
        windows: Downstream windows that were computed.
        windows_in_all: Downstream windows that a dense network would have computed.
    """

    hu: FloatArray
    leaves: BoolArray
    windows: int
    windows_in_all: int


class Upscaler:
    """A checkpoint ready to super-resolve slices.

    Args:
        checkpoint: Autoencoder and denoiser.
        options: How to run them.
        device: Where to run them.

    Raises:
        CheckpointError: If the checkpoint has no denoiser or was trained for other scales.
        ConfigError: If steps or tile are out of range.
    """

    def __init__(self, checkpoint: Checkpoint, options: UpscaleOptions, *, device: torch.device) -> None:
        if checkpoint.denoiser is None:
            raise CheckpointError(
                f"model {checkpoint.card.name} is an autoencoder without a denoiser; train one with `qdm-med train`"
            )
        default_steps = checkpoint.card.steps_for(options.scale)
        self.card, self.sha256 = checkpoint.card, checkpoint.sha256
        self.scale, self.seed = options.scale, options.seed
        self.steps = default_steps if options.steps is None else options.steps
        self.threshold = self.card.threshold if options.threshold is None else options.threshold
        trained = max(2 * OVERLAP, checkpoint.denoiser.config.trained_size * DOWNSAMPLING // options.scale)
        self.tiling = Tiling.of(trained if options.tile is None else options.tile)
        schedule = ResidualShiftSchedule.from_config(self.card.schedule)
        self._schedule = schedule.respaced(trailing_timesteps(len(schedule), self.steps))
        self._autoencoder = checkpoint.autoencoder.to(device).to(memory_format=torch.channels_last)
        self._denoiser = checkpoint.denoiser.to(device)
        self._device = device

    def upscale_slice(self, ct_slice: CtSlice, series_key: str) -> UpscaledSlice:
        """Super-resolve one slice.

        Args:
            ct_slice: Slice of any size, sides of 1 pixel included.
            series_key: Identity of its series, from which its noise is keyed.
        """
        source = fill_padding(ct_slice.hu, ct_slice.padding)
        low, high = self.card.intensity.hu_range
        inside = np.clip(source, low, high)
        image = torch.from_numpy(self.card.intensity.to_unit(inside))[None]  # (1, H, W)
        unit, leaves, windows, windows_in_all = self._super_resolve(
            image, SliceNoise(self.seed, series_key, ct_slice.position_mm)
        )
        fine = agree_with_source(self.card.intensity.to_hu(unit.numpy()), inside, self.scale)
        # Beyond the mapped range (metal on an extended scale) there is no network: those HU are magnified as they are.
        beyond = np.kron(source - inside, np.ones((self.scale, self.scale), dtype=np.float32))
        return UpscaledSlice(fine + beyond, leaves, windows, windows_in_all)

    def _super_resolve(self, image: Tensor, noise: SliceNoise) -> tuple[Tensor, BoolArray, int, int]:
        """``(1, H, W)`` image -> ``(scale H, scale W)`` image, leaves on the source grid, windows."""
        rows, columns = image.shape[-2:]
        fusion = GaussianTileFusion((1, rows * self.scale, columns * self.scale))
        leaves = np.zeros((rows, columns), dtype=bool)
        windows = windows_in_all = 0
        for region in self.tiling.regions(rows, columns):
            result = self._tile(image, region, noise)
            fusion.add(result.image[0], region[0].start * self.scale, region[1].start * self.scale)
            leaves[region] |= _on_grid(result.leaves[0], leaves[region].shape)
            windows += result.windows
            windows_in_all += result.windows_in_all
        return fusion.result()[0], leaves, windows, windows_in_all

    def _tile(self, image: Tensor, region: tuple[slice, slice], noise: SliceNoise) -> SuperResolved:
        draws = slice_draws(
            noise,
            (image.shape[-2], image.shape[-1]),
            channels=self.card.autoencoder.latent_channels,
            scale=self.scale,
            device=self._device,
            region=region,
        )
        return super_resolve(
            self._autoencoder,
            self._denoiser,
            image[:, region[0], region[1]][None].to(self._device),
            scale=self.scale,
            schedule=self._schedule,
            quadtree=PaperQuadtree(self.threshold),
            noise=draws,
        )


def _on_grid(leaves: Tensor, shape: tuple[int, ...]) -> BoolArray:
    """Leaves of a tile on the grid of its source pixels."""
    on_grid = torch.nn.functional.interpolate(leaves[None, None].float(), size=shape, mode="nearest")[0, 0] > 0
    found: BoolArray = on_grid.cpu().numpy()
    return found


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
