"""Whole slices and their degraded versions as MONAI transforms: load, to unit, degrade; validation and benchmarks run on it.

An item is degraded by the pixels of its slice alone, so that a slice is degraded alike in any store and in any order.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from monai.transforms.transform import Transform

from qdm_med.data.degradation.degrade import DegradationConfig
from qdm_med.data.degradation.transforms import RandDegraded
from qdm_med.data.pipeline import IMAGE, Item, KeyedCompose, ToUnitd
from qdm_med.data.store.slices import SliceStore
from qdm_med.intensity import IntensityMap
from qdm_med.keys import slice_degradation


class LoadSliced(Transform):
    """Load a whole slice of a store by its ``index``: ``image``, ``(1, rows, columns)`` HU.

    Args:
        store: Slices.
    """

    def __init__(self, store: SliceStore) -> None:
        self._store = store

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Load the slice of one item."""
        return {**data, IMAGE: self._store.hu(data["index"])[None]}

    def __repr__(self) -> str:
        return f"LoadSliced({len(self._store.records)} slices)"


class SliceCompose(KeyedCompose):
    """A :class:`~qdm_med.data.pipeline.KeyedCompose` whose items are keyed by ``scale`` and the checksum of their slice.

    Args:
        transforms: Applied one after the other.
        seed: Key of all items.
        store: Slices, which know their checksums.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], seed: int, store: SliceStore) -> None:
        super().__init__(transforms, seed)
        self._store = store

    def generator(self, item: Mapping[Hashable, Any], use: Literal["crop", "transform"]) -> np.random.Generator:
        """The generator of an item; MONAI's transforms draw what nothing else draws."""
        own = slice_degradation(self.seed, item["scale"], self._store.records[item["index"]].sha256)
        return own.spawn(1)[0] if use == "transform" else own


def slice_pipeline(
    store: SliceStore, degradation: DegradationConfig, *, intensity: IntensityMap, seed: int = 0
) -> SliceCompose:
    """The transforms of whole slices, which can be printed and composed anew with others between them.

    Items are ``{"index": ..., "scale": ...}``, with ``"params"`` where a record says how they are degraded; they become
    ``image``, ``(1, rows, columns)``, and ``image_low_res``, ``(1, rows / scale, columns / scale)``, both in [-1, 1], and
    ``params``.

    Args:
        store: Slices.
        degradation: Distributions that the parameters are drawn from.
        intensity: HU to [-1, 1].
        seed: Key of all items.
    """
    degrade = RandDegraded(IMAGE, scale=None, config=degradation, intensity=intensity, keep_params=True)
    return SliceCompose((LoadSliced(store), ToUnitd(intensity), degrade), seed, store)
