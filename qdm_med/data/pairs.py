"""Training batches and evaluation pairs: high-resolution slices with their degraded versions.

Everything random is keyed, never carried along: a batch is a function of ``(seed, step)``, a full slice's
degradation of ``(seed, scale, pixels of the slice)``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qdm_med.data.degradation.degrade import DegradationConfig, DegradationParams, degrade, sample_params
from qdm_med.data.store.slices import HuArray, SliceRecord, SliceStore
from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.keys import rng, slice_degradation


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
        record: What is known about the slice.
        high_res: ``(1, 1, rows, columns)`` in [-1, 1].
        low_res: ``(1, 1, rows / scale, columns / scale)`` in [-1, 1].
        scale: High-resolution pixels a low-resolution pixel.
        params: How it was degraded.
    """

    index: int
    record: SliceRecord
    high_res: Tensor
    low_res: Tensor
    scale: int
    params: DegradationParams


class PairSampler:
    """Random training batches of one split, reproducible from their step number.

    Half of the slices are drawn uniformly over slices and half uniformly over patients, so that a patient with two
    slices is not drowned by one with two hundred, nor shown a hundred times as often as each of the other's slices.

    Args:
        store: Slices to draw from.
        split: Split to draw from.
        crop: Side of the crops in high-resolution pixels.
        scales: Scales to draw from, one a batch, equally likely.
        degradation: Distributions of the degradation.
        intensity: HU to [-1, 1].
        seed: Key of the whole sequence of batches.

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
    ) -> None:
        if crop > min(store.slice_shape):
            raise ConfigError(f"crop {crop} is larger than the store's slices of {store.slice_shape}; choose a smaller")
        if not scales or any(scale < 1 or crop % scale for scale in scales):
            raise ConfigError(f"crop {crop} must be a multiple of every scale, got scales {tuple(scales)}")
        self._store = store
        self._crop = crop
        self._scales = tuple(scales)
        self._degradation = degradation
        self._intensity = intensity or CompandedRange()
        self._seed = seed
        self._indices = store.indices(split)
        by_patient: dict[str, list[int]] = {}
        for index in self._indices:
            by_patient.setdefault(store.records[index].patient, []).append(index)
        self._by_patient = [by_patient[patient] for patient in sorted(by_patient)]

    def batch(self, step: int, size: int, *, rank: int = 0, world_size: int = 1) -> PairBatch:
        """Make the batch of one step.

        Args:
            step: Number of the training step.
            size: Items in the batch of all processes together.
            rank: This process; it gets items ``rank, rank + world_size, ...``.
            world_size: Number of processes.
        """
        scale = int(rng(self._seed, "scale", step).choice(self._scales))
        crops, params = [], []
        for item in range(rank, size, world_size):
            own = rng(self._seed, "crop", step, item)
            crops.append(self._intensity.to_unit(self._draw_crop(own)))
            params.append(sample_params(self._degradation, scale, own))
        high_res = torch.from_numpy(np.stack(crops))[:, None]
        return PairBatch(high_res, degrade(high_res, params, intensity=self._intensity), scale)

    def _draw_crop(self, own: np.random.Generator) -> HuArray:
        group = self._indices if own.random() < 0.5 else self._by_patient[own.integers(len(self._by_patient))]
        hu = self._store.hu(group[own.integers(len(group))])
        row, column = (own.integers(length - self._crop + 1) for length in hu.shape)
        crop = hu[row : row + self._crop, column : column + self._crop]
        return crop[:, ::-1] if own.random() < 0.5 else crop


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
    """Walk through the whole slices of a split (or every n-th of them), in store order, each degraded by its own key.

    See :func:`degraded_pair` for the keys.
    """
    for index in store.indices(split)[::every]:
        yield degraded_pair(store, index, scale, degradation, seed, intensity=intensity)


def degraded_pair(
    store: SliceStore,
    index: int,
    scale: int,
    degradation: DegradationConfig,
    seed: int = 0,
    *,
    intensity: IntensityMap | None = None,
) -> SlicePair:
    """One whole slice, degraded by its own key.

    The key is ``(seed, scale, checksum of the slice)``: a slice is degraded alike in any store and in any order.
    """
    record = store.records[index]
    params = sample_params(degradation, scale, slice_degradation(seed, scale, record.sha256))
    return pair_of(store, index, params, intensity=intensity)


def pair_of(
    store: SliceStore, index: int, params: DegradationParams, *, intensity: IntensityMap | None = None
) -> SlicePair:
    """One whole slice, degraded as ``params`` says: the same pixels whenever it is done."""
    mapping = intensity or CompandedRange()
    high_res = torch.from_numpy(mapping.to_unit(store.hu(index)))[None, None]
    low_res = degrade(high_res, [params], intensity=mapping)
    return SlicePair(index, store.records[index], high_res, low_res, params.scale, params)
