"""Training pairs as MONAI transforms: load, reference, crop, flip, to unit, degrade.

The transforms compose with MONAI's own. What an item becomes is a function of its key ``(seed, step, item)`` alone: neither
the order of items nor the process that makes them matters. Whole slices, for validation and benchmarks, go through
:mod:`qdm_med.data.whole_slices`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from monai.transforms.compose import Compose
from monai.transforms.transform import Randomizable, Transform

from qdm_med.data.degradation.degrade import DegradationConfig
from qdm_med.data.degradation.transforms import RNG, RandDegraded
from qdm_med.data.noise_level import noise_hu
from qdm_med.data.store.slices import SliceStore
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.errors import ConfigError, QdmMedError
from qdm_med.intensity import IntensityMap
from qdm_med.keys import rng

Item = dict[Hashable, Any]
"""``step``, ``item`` and ``scale`` at first, ``image`` and ``image_low_res`` at last."""

IMAGE, LOW_RES = "image", "image_low_res"
_REDRAWS = 8
"""Draws after which a noisy reference is taken nevertheless: a store may have no others."""


@dataclass(frozen=True)
class TruthConfig:
    """Sources of the references of training: scanned slices, and slices drawn with a known truth.

    Attributes:
        synthetic_share: Share of the items whose truth is procedural (:mod:`qdm_med.data.synthetic`).
        synthetic: Weights of the drawn scenes.
        turned: Whether scanned references are turned by a random multiple of 90 degrees; else they are mirrored only.
        quiet_hu: Noise in HU at which a scanned reference is taken half as often as a quiet one: what texture there is in a
            noisy reference is mostly its noise. 0: all alike.
    """

    synthetic_share: float = 0.0
    synthetic: SyntheticConfig = SyntheticConfig()
    turned: bool = False
    quiet_hu: float = 0.0

    def __post_init__(self) -> None:
        """Reject shares and noise levels that cannot be."""
        if not 0 <= self.synthetic_share <= 1 or self.quiet_hu < 0:
            raise ConfigError(f"synthetic_share must lie in [0, 1] and quiet_hu not below 0, got {self}")


class KeyedCompose(Compose):
    """MONAI's ``Compose`` for items that carry their key: ``step`` and ``item``.

    Our transforms draw from the item's own generator, ``rng``, which is put in before the first and taken out behind the last;
    MONAI's random transforms get a state from the same key.

    Args:
        transforms: Applied one after the other.
        seed: Key of all items.
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]], seed: int) -> None:
        super().__init__(transforms)
        self.seed = seed
        # A state takes longer to make than a small crop; ours draw from the item's generator and need none.
        self._others_draw = any(map(_draws, transforms))

    def __call__(  # type: ignore[override]  # named as Compose names it, for items alone
        self, input_: Mapping[Hashable, Any], *arguments: Any, **options: Any
    ) -> Item:
        """Make one item.

        Raises:
            QdmMedError: As a transform raised it; MONAI would wrap it.
        """
        if self._others_draw:
            self.set_random_state(seed=int(self.generator(input_, "transform").integers(2**32)))
        try:
            made = super().__call__({**input_, RNG: self.generator(input_, "crop")}, *arguments, **options)
        except RuntimeError as error:
            if isinstance(error.__cause__, QdmMedError):
                raise error.__cause__ from None
            raise
        return {key: value for key, value in made.items() if key != RNG}

    def generator(self, item: Mapping[Hashable, Any], use: Literal["crop", "transform"]) -> np.random.Generator:
        """The generator of an item: of our transforms, or of the state of MONAI's."""
        return rng(self.seed, use, item["step"], item["item"])

    def __repr__(self) -> str:
        lines = "".join(f"    {transform!r},\n" for transform in self.transforms)
        return f"{type(self).__name__}([\n{lines}], seed={self.seed})"


def _draws(transform: object) -> bool:
    return isinstance(transform, Randomizable) and not isinstance(transform, RandDegraded)


class RandLoadReferenced(Transform):
    """Load a slice of a store, or make one up: ``image``, ``(1, rows, columns)`` HU, and whether it is ``scanned``.

    Half of the slices are drawn uniformly over slices and half uniformly over patients, so that a patient with two
    slices is not drowned by one with two hundred, nor shown a hundred times as often as each of the other's slices.

    Args:
        store: Slices to draw from.
        split: Split to draw from.
        crop: Side of what is made up, in pixels.
        truth: Share of drawn slices, and preference among scanned ones.

    Raises:
        DataError: If the split is empty.
    """

    def __init__(self, store: SliceStore, split: str, crop: int, truth: TruthConfig) -> None:
        self._store, self._split, self._crop, self._truth = store, split, crop, truth
        self._indices = store.indices(split)
        by_patient: dict[str, list[int]] = {}
        for index in self._indices:
            by_patient.setdefault(store.records[index].patient, []).append(index)
        self._by_patient = [by_patient[patient] for patient in sorted(by_patient)]
        self._noise: dict[int, float] = {}

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Draw the reference of one item."""
        own, share = data[RNG], self._truth.synthetic_share
        if share and own.random() < share:
            made_up = synthetic_slice(self._truth.synthetic, self._crop, data["scale"], own)
            return {**data, IMAGE: made_up[None], "scanned": False}
        return {**data, IMAGE: self._store.hu(self._draw_index(own))[None], "scanned": True}

    def _draw_index(self, own: np.random.Generator) -> int:
        """Draw a slice; where quiet ones are preferred, most of the noisy ones are put back."""
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

    def __repr__(self) -> str:
        return f"RandLoadReferenced({len(self._indices)} slices of {self._split}, {self._truth})"


class RandCropReferenced(Transform):
    """Cut a square out of a scanned ``image``, anywhere; a drawn image has that size already.

    Args:
        crop: Side in pixels.
    """

    def __init__(self, crop: int) -> None:
        self.crop = crop

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Crop one item."""
        if not data["scanned"]:
            return dict(data)
        hu, own = data[IMAGE], data[RNG]
        row, column = (own.integers(length - self.crop + 1) for length in hu.shape[1:])
        return {**data, IMAGE: hu[:, row : row + self.crop, column : column + self.crop].astype(np.float32)}

    def __repr__(self) -> str:
        return f"RandCropReferenced({self.crop})"


class RandFlipReferenced(Transform):
    """Mirror every second scanned ``image`` from left to right and, if wanted, turn it by a multiple of 90 degrees.

    Args:
        turned: Whether it is turned.
    """

    def __init__(self, turned: bool = False) -> None:
        self.turned = turned

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Mirror one item, or not."""
        if not data["scanned"]:
            return dict(data)
        hu, own = data[IMAGE], data[RNG]
        hu = hu[..., ::-1] if own.random() < 0.5 else hu
        return {**data, IMAGE: np.rot90(hu, int(own.integers(4)), axes=(1, 2)) if self.turned else hu}

    def __repr__(self) -> str:
        return f"RandFlipReferenced(turned={self.turned})"


class ToUnitd(Transform):
    """Map the HU of ``image`` to a tensor in [-1, 1].

    Args:
        intensity: HU to [-1, 1].
    """

    def __init__(self, intensity: IntensityMap) -> None:
        self.intensity = intensity

    def __call__(self, data: Mapping[Hashable, Any]) -> Item:
        """Map one item."""
        return {**data, IMAGE: torch.from_numpy(self.intensity.to_unit(data[IMAGE]))}

    def __repr__(self) -> str:
        return f"ToUnitd({self.intensity})"


def pair_pipeline(
    store: SliceStore,
    *,
    split: str,
    crop: int,
    degradation: DegradationConfig,
    intensity: IntensityMap,
    seed: int = 0,
    truth: TruthConfig | None = None,
) -> KeyedCompose:
    """Compose the transforms of training pairs, which can be printed and composed anew with others between them.

    Items are ``{"step": ..., "item": ..., "scale": ...}``; they become ``image``, ``(1, crop, crop)``, and ``image_low_res``,
    ``(1, crop / scale, crop / scale)``, both in [-1, 1].

    Args:
        store: Slices to draw from.
        split: Split to draw from.
        crop: Side of the crops in high-resolution pixels.
        degradation: Distributions of the degradation.
        intensity: HU to [-1, 1].
        seed: Key of all items.
        truth: Sources of the references.
    """
    source = truth or TruthConfig()
    transforms = (
        RandLoadReferenced(store, split, crop, source),
        RandCropReferenced(crop),
        RandFlipReferenced(source.turned),
        ToUnitd(intensity),
        RandDegraded(IMAGE, scale=None, config=degradation, intensity=intensity),
    )
    return KeyedCompose(transforms, seed)
