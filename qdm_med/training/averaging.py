"""Averages of the weights over a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

Average = Callable[[Any, Any, Tensor | int], None]
"""Averaged weights, current weights, number of updates so far: moves the averaged ones, all tensors at once.

One tensor after the other, a small network on a GPU would wait longer for its average than for its gradient."""


def warm_average(decay: float) -> Average:
    """Exponential moving average whose memory grows with the run, ``min(decay, (1 + n) / (10 + n))`` at update n.

    With a fixed decay the weights of the first steps outlive a short run.
    """

    def average(averaged: Any, current: Any, updates: Tensor | int) -> None:
        count = float(updates)
        fixed_average(min(decay, (1 + count) / (10 + count)))(averaged, current, updates)

    return average


def fixed_average(decay: float) -> Average:
    """Exponential moving average with one decay from the first step on."""
    average: Average = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    return average
