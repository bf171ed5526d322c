"""Pairs of a photograph and its degraded version, keyed by the photograph's own pixels."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from torch import Tensor

from qdm_med import keys
from qdm_med.data.degradation.second_order import degrade_second_order, sample_second_order
from qdm_med.data.degradation.second_order_params import SecondOrderConfig, SecondOrderParams


class Pair(NamedTuple):
    """A photograph, or a part of one, and its degraded version.

    Attributes:
        high_res: ``(1, 3, H, W)`` in [-1, 1].
        low_res: ``(1, 3, H / scale, W / scale)`` in [-1, 1], on 256 levels.
        key: Identity of its pixels, from which its noise is keyed, too.
        params: Parameters of its degradation.
    """

    high_res: Tensor
    low_res: Tensor
    key: str
    params: SecondOrderParams


def degraded_pair(high_res: Tensor, config: SecondOrderConfig, *, scale: int, seed: int) -> Pair:
    """Degrade ``(3, H, W)`` in [-1, 1] by its own key: alike in any order and under any name."""
    key = hashlib.sha256(high_res.contiguous().numpy().tobytes()).hexdigest()
    params = sample_second_order(config, scale, keys.slice_degradation(seed, scale, key))
    return Pair(high_res[None], degrade_second_order(high_res[None], [params]), key, params)
