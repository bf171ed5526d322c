"""Upscaler of CT volumes: slices are planned, computed and finished one by one, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from qdm_med.checkpoints.model import Checkpoint, find_checkpoint, load_checkpoint
from qdm_med.device import pick_device
from qdm_med.errors import ConfigError
from qdm_med.inference.finish import SliceFinisher
from qdm_med.inference.memory import tile_within
from qdm_med.inference.networks import FineTiles, TileNetworks
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import SlicePlan, SlicePlanner
from qdm_med.inference.spread import RunningSpread
from qdm_med.inference.tiling import AnyTiling
from qdm_med.volume import BoolArray, CtSlice, FloatArray


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
        raw_std_hu: The same, not calibrated.
    """

    hu: FloatArray
    leaves: BoolArray
    windows: int
    windows_in_all: int
    std_hu: FloatArray | None = None
    raw_std_hu: FloatArray | None = None


class Upscaler:
    """A checkpoint, ready to super-resolve slices.

    Args:
        checkpoint: Autoencoder and denoiser.
        options: Options of the run.
        device: Device of the networks.

    Attributes:
        card: Description of the networks.
        sha256: Hash of their weights.
        options: Options of the run, every default filled in.
        quadtree: Rule for the active leaves.
        spread_calibration: Of the samples' standard deviation, if the model knows how.
        planner: Decides what is computed.
        computed: Slices that were computed, by all calls together.
        told: Hears, tile by tile, how many slices were computed, a share of those in hand included.

    Raises:
        CheckpointError: If the checkpoint has no denoiser or was trained for other scales.
        ConfigError: If steps, quadtree or tile are out of range.
    """

    def __init__(self, checkpoint: Checkpoint, options: UpscaleOptions, *, device: torch.device) -> None:
        self.card, self.sha256 = checkpoint.card, checkpoint.sha256
        shape = checkpoint.require_denoiser().config
        self.options = options.settled_for(self.card)
        self.steps, self.samples, _ = self.options.sampling_for(self.card)
        self.quadtree = options.quadtree_for(self.card)
        self.spread_calibration = options.spread_calibration_for(self.card)
        intensity, tiling = self.card.intensity, options.tiling_for(self.card)
        self._asked_tiling = tiling
        self.planner = SlicePlanner(intensity, self.quadtree, tiling, self.scale, shape, options.seed)
        self._networks = TileNetworks(checkpoint, self.options, device)
        self.computed = 0
        self.told: Callable[[float], None] = lambda computed: None
        consistency = self.options.consistency_for(self.card)
        self._finisher = SliceFinisher(intensity, self.scale, consistency, self.options.fwhm, tiling)

    @property
    def scale(self) -> int:
        """Magnification of rows and columns."""
        return self.options.scale

    @property
    def tiling(self) -> AnyTiling:
        """Tiles of a large slice."""
        return self.planner.tiling

    @property
    def batch_leaves(self) -> int:
        """Number of active leaves that are computed together; 0: tile by tile."""
        return self._networks.batch_leaves

    def keep_below(self, limit: int, shape: tuple[int, int], *, uncertainty: bool = False) -> None:
        """Make tiles so small that slices of ``shape`` source pixels need at most ``limit`` bytes.

        Tiles follow from the options and ``shape`` alone, whatever was computed before: a small series after a large one has
        its own.

        Raises:
            ConfigError: If even the smallest tiles need more.
        """
        tiling = tile_within(self.card, shape, self._asked_tiling, self.scale, limit, uncertainty=uncertainty)
        self.planner = replace(self.planner, tiling=tiling)
        self.options = replace(self.options, tile=tiling.tile)

    def require_samples(self) -> None:
        """Refuse to give the spread of samples where there is only one.

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

    def plan(self, ct_slice: CtSlice, series_key: str) -> SlicePlan:
        """Plan a slice; arguments as for :meth:`upscale_slice`."""
        return self.planner.plan(ct_slice, series_key)

    def compute(self, plans: Sequence[SlicePlan], *, uncertainty: bool = False) -> list[UpscaledSlice]:
        """Compute planned slices.

        Tiles of one size go through the networks together, as many as ``batch_leaves`` allows. A slice's HU do not depend
        on its companions beyond the rounding of float32; with ``batch_leaves`` 0 not at all. Nor do they depend on
        ``uncertainty``, for which all slices of ``plans`` are held in memory at once.

        Raises:
            ConfigError: If uncertainty is wanted of fewer than two samples.
        """
        if uncertainty:
            self.require_samples()
        results = self._compute_with_uncertainty(plans) if uncertainty else self._compute(plans)
        self.computed += len(plans)
        self.told(self.computed)
        return results

    def _compute(self, plans: Sequence[SlicePlan]) -> list[UpscaledSlice]:
        """Compute the mean of all samples, tile by tile."""
        self._networks.told = partial(self._tell, len(plans))
        fine = self._networks.super_resolve(plans, range(self.samples))
        return [self._finished(plan, own) for plan, own in zip(plans, fine, strict=True)]

    def _compute_with_uncertainty(self, plans: Sequence[SlicePlan]) -> list[UpscaledSlice]:
        """Compute samples one by one over all tiles, and finish each, for its spread; then finish their mean."""
        totals: list[FineTiles] = [{} for _ in plans]
        spreads = [RunningSpread((rows * self.scale, columns * self.scale)) for rows, columns in _shapes(plans)]
        for number in range(self.samples):
            self._networks.told = partial(self._tell_sample, len(plans), number)
            fine = self._networks.super_resolve(plans, (number,))
            for plan, total, own, spread in zip(plans, totals, fine, spreads, strict=True):
                if own:
                    spread.add(self._finisher.finish(plan, own))
                for tile, image in own.items():
                    total[tile] = total[tile] + image if tile in total else image
        return [self._with_spread(*one) for one in zip(plans, totals, spreads, strict=True)]

    def _tell_sample(self, count: int, number: int, share: float) -> None:
        self._tell(count, (number + share) / self.samples)

    def _tell(self, count: int, share: float) -> None:
        """Tell that a share of ``count`` slices is done."""
        self.told(self.computed + share * count)

    def _with_spread(self, plan: SlicePlan, total: FineTiles, spread: RunningSpread) -> UpscaledSlice:
        result = self._finished(plan, {tile: image / self.samples for tile, image in total.items()})
        # Where no network is asked all samples are the same.
        std = spread.std() if total else np.zeros(result.hu.shape, dtype=np.float32)
        calibrated = self.spread_calibration.apply(std, result.hu) if self.spread_calibration else std
        return replace(result, std_hu=calibrated, raw_std_hu=std)

    def _finished(self, plan: SlicePlan, fine: FineTiles) -> UpscaledSlice:
        return UpscaledSlice(self._finisher.finish(plan, fine), plan.leaves, plan.windows, plan.windows_in_all)


def _shapes(plans: Sequence[SlicePlan]) -> list[tuple[int, int]]:
    return [(plan.source.shape[0], plan.source.shape[1]) for plan in plans]


def load_upscaler(
    checkpoint: Path | None = None, options: UpscaleOptions | None = None, *, device: str = "auto"
) -> Upscaler:
    """Load a checkpoint, by default the embedded clinical one, ready to run; see :func:`find_checkpoint`.

    Raises:
        CheckpointError: If the file is missing, damaged or invalid.
        ConfigError: If an option or the device is invalid.
    """
    target = pick_device(device)
    return Upscaler(load_checkpoint(find_checkpoint(checkpoint)), options or UpscaleOptions(), device=target)
