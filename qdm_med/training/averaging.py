"""Averages of the weights over a run."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def warm_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose memory grows with the run, ``min(decay, (1 + n) / (10 + n))`` at update n.

    With a fixed decay the weights of the first steps outlive a short run.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        count = float(updates)
        return torch.lerp(current, averaged, min(decay, (1 + count) / (10 + count)))

    return average


def fixed_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average with one decay from the first step on."""
    return lambda averaged, current, updates: torch.lerp(current, averaged, decay)
