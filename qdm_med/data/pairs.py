"""Training batches and evaluation pairs: high-resolution slices with their degraded versions.

Everything random is keyed, never carried along: a batch is a function of ``(seed, step)``, a full slice's
degradation of ``(seed, scale, pixels of the slice)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from monai.data.dataset import Dataset
from torch import Tensor

from qdm_med.data.degradation.degrade import BENCHMARK, DegradationConfig, DegradationParams
from qdm_med.data.degradation.transforms import PARAMS
from qdm_med.data.pipeline import IMAGE, LOW_RES, Item, TruthConfig, pair_pipeline
from qdm_med.data.store.slices import SliceRecord, SliceStore
from qdm_med.data.whole_slices import slice_pipeline
from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.keys import rng


@dataclass(frozen=True)
class PairBatch:
    """One training batch.

    Attributes:
        high_res: ``(B, 1, crop, crop)`` in [-1, 1].
        low_res: ``(B, 1, crop / scale, crop / scale)`` in [-1, 1].
        scale: High-resolution pixels a low-resolution pixel.
    """

    high_res: Tensor
    low_res: Tensor
    scale: int


@dataclass(frozen=True)
class SlicePair:
    """One whole slice and its degraded version.

    Attributes:
        index: Number of the slice in its store.
        record: The store's record of the slice.
        high_res: ``(1, 1, rows, columns)`` in [-1, 1].
        low_res: ``(1, 1, rows / scale, columns / scale)`` in [-1, 1].
        scale: High-resolution pixels a low-resolution pixel.
        params: Parameters of its degradation.
    """

    index: int
    record: SliceRecord
    high_res: Tensor
    low_res: Tensor
    scale: int
    params: DegradationParams


class PairSampler:
    """Random training batches of one split, reproducible from their step number.

    Pairs come from :func:`qdm_med.data.pipeline.pair_pipeline` on a MONAI dataset of the batch's items.

    Args:
        store: Slices to draw from.
        split: Split to draw from.
        crop: Side of the crops in high-resolution pixels.
        scales: Scales to draw from, one a batch, equally likely.
        degradation: Distributions of the degradation.
        intensity: HU to [-1, 1].
        seed: Key of the whole sequence of batches.
        truth: Sources of the references.

    Attributes:
        pipeline: The transforms of the pairs; another one may take its place.

    Raises:
        ConfigError: If the crop does not fit the slices or the scales.
        DataError: If the split is empty.
    """

    def __init__(
        self,
        store: SliceStore,
        *,
        split: str,
        crop: int,
        scales: Sequence[int],
        degradation: DegradationConfig,
        intensity: IntensityMap | None = None,
        seed: int = 0,
        truth: TruthConfig | None = None,
    ) -> None:
        if crop > min(store.slice_shape):
            raise ConfigError(f"crop {crop} is larger than the store's slices of {store.slice_shape}; choose a smaller")
        if not scales or any(scale < 1 or crop % scale for scale in scales):
            raise ConfigError(f"crop {crop} must be a multiple of every scale, got scales {tuple(scales)}")
        self._scales, self._seed = tuple(scales), seed
        self.pipeline = pair_pipeline(
            store,
            split=split,
            crop=crop,
            degradation=degradation,
            intensity=intensity or CompandedRange(),
            seed=seed,
            truth=truth,
        )

    def dataset(self, step: int, size: int, *, rank: int = 0, world_size: int = 1) -> Dataset:
        """Items of one step, made when they are asked for, in any order and in any process; arguments as for :meth:`batch`."""
        scale = int(rng(self._seed, "scale", step).choice(self._scales))
        items = [{"step": step, "item": item, "scale": scale} for item in range(rank, size, world_size)]
        return Dataset(items, self.pipeline)

    def batch(self, step: int, size: int, *, rank: int = 0, world_size: int = 1) -> PairBatch:
        """Make the batch of one step.

        Args:
            step: Number of the training step.
            size: Items in the batch of all processes together.
            rank: This process; it gets items ``rank, rank + world_size, ...``.
            world_size: Number of processes.
        """
        pairs = self.dataset(step, size, rank=rank, world_size=world_size)
        made = [pairs[number] for number in range(len(pairs))]
        high_res, low_res = (torch.stack([item[key] for item in made]) for key in (IMAGE, LOW_RES))
        return PairBatch(high_res, low_res, int(made[0]["scale"]))


def full_pairs(
    store: SliceStore,
    split: str,
    scale: int,
    degradation: DegradationConfig,
    seed: int = 0,
    *,
    intensity: IntensityMap | None = None,
    every: int = 1,
) -> Iterator[SlicePair]:
    """Walk through the whole slices of a split, or every n-th of them, in store order, each degraded by its own key.

    See :func:`degraded_pair` for the keys.
    """
    pipeline = slice_pipeline(store, degradation, intensity=intensity or CompandedRange(), seed=seed)
    slices = Dataset([{"index": index, "scale": scale} for index in store.indices(split)[::every]], pipeline)
    for number in range(len(slices)):
        yield _slice_pair(store, slices[number])


def degraded_pair(
    store: SliceStore,
    index: int,
    scale: int,
    degradation: DegradationConfig,
    seed: int = 0,
    *,
    intensity: IntensityMap | None = None,
) -> SlicePair:
    """Degrade one whole slice by its own key.

    The key is ``(seed, scale, checksum of the slice)``: a slice is degraded alike in any store and in any order.
    """
    pipeline = slice_pipeline(store, degradation, intensity=intensity or CompandedRange(), seed=seed)
    return _slice_pair(store, pipeline({"index": index, "scale": scale}))


def pair_of(
    store: SliceStore, index: int, params: DegradationParams, *, intensity: IntensityMap | None = None
) -> SlicePair:
    """Degrade one whole slice with given parameters: always the same pixels."""
    pipeline = slice_pipeline(store, BENCHMARK, intensity=intensity or CompandedRange())  # nothing is drawn from it
    return _slice_pair(store, pipeline({"index": index, "scale": params.scale, PARAMS: params}))


def _slice_pair(store: SliceStore, item: Item) -> SlicePair:
    index: int = item["index"]
    return SlicePair(index, store.records[index], item[IMAGE][None], item[LOW_RES][None], item["scale"], item[PARAMS])
