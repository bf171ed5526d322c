"""The degradation as a MONAI dictionary transform, for pipelines built from MONAI parts."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.config.type_definitions import KeysCollection
from monai.transforms.transform import MapTransform, Randomizable

from qdm_med.data.degradation.degrade import TRAINING, DegradationConfig, DegradationParams, degrade
from qdm_med.intensity import IntensityMap
from qdm_med.keys import recorded

RNG = "rng"
"""Key under which an item carries the generator of its own draws."""

PARAMS = "params"
"""Key under which an item carries the parameters of its degradation, drawn or recorded."""


class RandDegraded(MapTransform, Randomizable):
    """Add the degraded image ``<key>_low_res`` of every key, ``(C, H, W)`` in [-1, 1].

    All keys of one item are degraded alike. The parameters are those that the item carries under ``params``, as a record of
    them says; else they come from the generator that it carries under ``rng``
    (:class:`qdm_med.data.pipeline.KeyedCompose` puts it there), else from MONAI's ``set_random_state``. They are left
    in :attr:`params` after each call.

    Args:
        keys: High-resolution images.
        scale: High-resolution pixels a low-resolution pixel; ``None``: the item tells it, under ``scale``.
        config: Distributions of the parameters: one of :data:`~qdm_med.data.degradation.degrade.TRAINING`, ``BENCHMARK`` and
            ``SCANNER``, or one's own.
        allow_missing_keys: Ignore keys that an item lacks.
        intensity: Mapping between HU and [-1, 1], :class:`~qdm_med.intensity.CompandedRange` unless given; for ``SCANNER``.
        keep_params: Whether the item gets its parameters, under ``params``. Loaders cannot collate them.
    """

    def __init__(
        self,
        keys: KeysCollection,
        scale: int | None,
        config: DegradationConfig = TRAINING,
        allow_missing_keys: bool = False,
        intensity: IntensityMap | None = None,
        keep_params: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.scale = scale
        self.config = config
        self.intensity = intensity
        self.keep_params = keep_params
        self.params: DegradationParams | None = None

    def randomize(self, data: Any = None) -> None:
        """Draw the parameters of an item, ``data``, or read those that it carries."""
        item = data or {}
        if PARAMS in item:
            self.params = item[PARAMS]
            return
        own = item.get(RNG) or recorded(int(self.R.randint(0, 2**32, dtype=np.uint64)))
        self.params = self.config.draw(item["scale"] if self.scale is None else self.scale, own)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Degrade one item; the input is left as it is."""
        item = dict(data)
        self.randomize(item)
        if self.params is None:
            raise RuntimeError("randomize draws parameters")
        for key in self.key_iterator(item):
            high_res = torch.as_tensor(item[key])[None]
            item[f"{key}_low_res"] = degrade(high_res, [self.params], intensity=self.intensity)[0]
        return item | {PARAMS: self.params} if self.keep_params else item

    def __repr__(self) -> str:
        scale = "of the item" if self.scale is None else self.scale
        return f"RandDegraded({', '.join(map(str, self.keys))}, scale {scale}, {self.config})"
