"""Interface of a diffusion chain, as process and sampler use it, whichever schedule it follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from qdm_med.diffusion.ddpm import DdpmConfig, DdpmSchedule
from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig


class Chain(Protocol):
    """A Gaussian chain of T steps that leads away from ``z_0``; arrays are ``(T,)`` float64, index t for step t + 1.

    Forward ``z_t = high_share z_0 + low_share z_y + noise_std M noise``, from whose last step only
    ``z_T = start_share z_y + noise_std M noise`` is known; back ``z_{t-1} = kept_share z_t + new_share z_0 + posterior_std M
    noise``, without noise at the first step.
    """

    @property
    def timesteps(self) -> tuple[int, ...]:
        """The timestep that the network is told at each index."""
        ...

    @property
    def high_share(self) -> NDArray[np.float64]:
        """Factor of ``z_0`` in ``z_t``."""
        ...

    @property
    def low_share(self) -> NDArray[np.float64]:
        """Factor of ``z_y`` in ``z_t``."""
        ...

    @property
    def noise_std(self) -> NDArray[np.float64]:
        """Standard deviation of the noise in ``z_t``."""
        ...

    @property
    def input_std(self) -> NDArray[np.float64]:
        """Standard deviation of ``z_t`` for latents of unit variance: the divisor of the network's input."""
        ...

    @property
    def start_share(self) -> float:
        """Factor of ``z_y`` where the way back starts."""
        ...

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """Factor of ``z_t`` one step back."""
        ...

    @property
    def new_share(self) -> NDArray[np.float64]:
        """Factor of the predicted ``z_0`` one step back."""
        ...

    @property
    def posterior_std(self) -> NDArray[np.float64]:
        """Standard deviation of the noise that a step back adds."""
        ...

    def __len__(self) -> int:
        """Count the steps, T."""
        ...

    def respaced(self, timesteps: Sequence[int]) -> Chain:
        """The chain through some of its steps, ascending."""
        ...


ChainConfig = ScheduleConfig | DdpmConfig
"""Residual shifting, or, where ``kind`` says ``ddpm``, latent diffusion."""


def chain_of(config: ChainConfig) -> Chain:
    """Build the schedule that a configuration describes."""
    if isinstance(config, DdpmConfig):
        return DdpmSchedule.from_config(config)
    return ResidualShiftSchedule.from_config(config)
