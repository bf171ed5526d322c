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
from qdm_med.data.noise_level import noise_hu
from qdm_med.data.store.slices import SliceRecord, SliceStore
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.keys import rng, slice_degradation
from qdm_med.volume import FloatArray


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


@dataclass(frozen=True)
class TruthConfig:
    """Where the references of training come from.

    Attributes:
        synthetic_share: Share of the items whose truth is procedural (:mod:`qdm_med.data.synthetic`).
        synthetic: What these are like.
        turned: Whether scanned references are turned by a random multiple of 90 degrees; else they are mirrored only.
        quiet_hu: Noise in HU at which a scanned reference is taken half as often as a quiet one: what texture there is in a
            noisy reference is mostly its noise. 0: all alike.
    """

    synthetic_share: float = 0.0
    synthetic: SyntheticConfig = SyntheticConfig()
    turned: bool = False
    quiet_hu: float = 0.0

    def __post_init__(self) -> None:
        """Reject what is no share and no noise."""
        if not 0 <= self.synthetic_share <= 1 or self.quiet_hu < 0:
            raise ConfigError(f"synthetic_share must lie in [0, 1] and quiet_hu not below 0, got {self}")


_REDRAWS = 8
"""Draws after which a noisy reference is taken nevertheless: a store may have no others."""


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
        truth: Where the references come from.

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
        self._truth = truth or TruthConfig()
        self._noise: dict[int, float] = {}

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
            crops.append(self._intensity.to_unit(self._draw_truth(own, scale)))
            params.append(sample_params(self._degradation, scale, own))
        high_res = torch.from_numpy(np.stack(crops))[:, None]
        return PairBatch(high_res, degrade(high_res, params, intensity=self._intensity), scale)

    def _draw_truth(self, own: np.random.Generator, scale: int) -> FloatArray:
        """``(crop, crop)`` HU of a slice of the store, or of one made up."""
        share = self._truth.synthetic_share
        if share and own.random() < share:
            return synthetic_slice(self._truth.synthetic, self._crop, scale, own)
        hu = self._store.hu(self._draw_index(own))
        row, column = (own.integers(length - self._crop + 1) for length in hu.shape)
        crop = hu[row : row + self._crop, column : column + self._crop].astype(np.float32)
        crop = crop[:, ::-1] if own.random() < 0.5 else crop
        return np.rot90(crop, int(own.integers(4))) if self._truth.turned else crop

    def _draw_index(self, own: np.random.Generator) -> int:
        """Draw a slice; of noisy ones, where quiet ones are preferred, most are put back."""
        for _ in range(_REDRAWS):
            group = self._indices if own.random() < 0.5 else self._by_patient[own.integers(len(self._by_patient))]
            index = group[own.integers(len(group))]
            if not self._truth.quiet_hu or own.random() < 1 / (1 + (self._noise_of(index) / self._truth.quiet_hu) ** 2):
                break
        return index

    def _noise_of(self, index: int) -> float:
        if index not in self._noise:
            self._noise[index] = noise_hu(self._store.hu(index).astype(np.float32))
        return self._noise[index]


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
