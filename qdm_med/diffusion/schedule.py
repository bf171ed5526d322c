"""Schedule of residual shifting (arXiv 2307.12348; 2503.12015, section 3.1): share of the residual at each step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import ConfigError


@dataclass(frozen=True)
class ScheduleConfig:
    """Numbers of the schedule; the defaults are the paper's.

    Attributes:
        steps: T, length of the chain.
        power: p, how the steps are spread: below 1 more of them have a large share.
        min_noise: Noise of the first step.
        sqrt_eta_last: Square root of eta_T.
        kappa: Noise standard deviation per unit sqrt(eta).
    """

    steps: int = 15
    power: float = 0.3
    min_noise: float = 0.04
    sqrt_eta_last: float = 0.99
    kappa: float = 2.0

    starts_from_source: ClassVar[bool] = True
    """The way back starts from ``z_y``."""

    def __post_init__(self) -> None:
        """Check the ranges within which the schedule increases."""
        if self.steps < 2:
            raise ConfigError(f"schedule steps must be at least 2, got {self.steps}")
        if not 0 < self.sqrt_eta_first < self.sqrt_eta_last <= 1:
            raise ConfigError(
                f"sqrt_eta must rise from above 0 to at most 1, got {self.sqrt_eta_first} to {self.sqrt_eta_last}"
            )

    @property
    def sqrt_eta_first(self) -> float:
        """Square root of eta_1."""
        return min(self.min_noise / self.kappa, self.min_noise)


@dataclass(frozen=True)
class ResidualShiftSchedule:
    """Shares ``eta_t`` of the residual present after each step; a :class:`qdm_med.diffusion.chain.Chain`.

    Attributes:
        sqrt_eta: ``(T,)`` float64, strictly increasing in (0, 1]; index t belongs to step t + 1 of the paper.
        kappa: Noise standard deviation per unit sqrt(eta).
        timesteps: ``(T,)`` the timestep that the network is told at each index; of a respaced schedule, those of the
            schedule that it was trained with.
    """

    sqrt_eta: NDArray[np.float64]
    kappa: float
    timesteps: tuple[int, ...]

    start_share: ClassVar[float] = 1.0

    @classmethod
    def from_config(cls, config: ScheduleConfig) -> ResidualShiftSchedule:
        """Compute ``sqrt(eta_t) = b0^beta_t sqrt(eta_1)`` (QDM Eq. 3; ResShift's noise schedule)."""
        last = config.steps - 1
        base = np.exp(np.log(config.sqrt_eta_last / config.sqrt_eta_first) / last)
        beta = np.linspace(0, 1, config.steps) ** config.power * last  # ((t - 1) / (T - 1))^p (T - 1)
        return cls(base**beta * config.sqrt_eta_first, config.kappa, tuple(range(config.steps)))

    def __len__(self) -> int:
        """Count the steps, T."""
        return len(self.sqrt_eta)

    @property
    def eta(self) -> NDArray[np.float64]:
        """``(T,)`` shares of the residual."""
        return self.sqrt_eta**2

    @property
    def eta_prev(self) -> NDArray[np.float64]:
        """``(T,)`` shares one step earlier; 0 before the first."""
        return np.concatenate([[0.0], self.eta[:-1]])

    @property
    def alpha(self) -> NDArray[np.float64]:
        """``(T,)`` share that each step adds, ``eta_t - eta_{t-1}`` (ResShift's transition)."""
        return self.eta - self.eta_prev

    @property
    def high_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_0`` in ``z_t``."""
        return 1 - self.eta

    @property
    def low_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_y`` in ``z_t``."""
        return self.eta

    @property
    def noise_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of the noise in ``z_t``."""
        return self.kappa * self.sqrt_eta

    @property
    def input_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of ``z_t`` for latents of unit variance: the divisor of the network's input."""
        return np.sqrt(self.eta * self.kappa**2 + 1)

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_t`` in the mean of q(z_{t-1} | z_t, z_0), ``eta_{t-1} / eta_t`` (ResShift's posterior)."""
        return self.eta_prev / self.eta

    @property
    def new_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_0`` in the same mean, ``alpha_t / eta_t`` (ResShift's posterior)."""
        return self.alpha / self.eta

    @property
    def posterior_variance(self) -> NDArray[np.float64]:
        """``(T,)`` variance ``kappa^2 (eta_{t-1} / eta_t) alpha_t`` of q(z_{t-1} | z_t, z_0) (ResShift's posterior); 0 at t = 1."""
        return self.kappa**2 * self.eta_prev / self.eta * self.alpha

    @property
    def posterior_log_variance_clipped(self) -> NDArray[np.float64]:
        """``(T,)`` logarithm of the variance; the first, minus infinity, is replaced by the second."""
        variance = self.posterior_variance
        return np.log(np.append(variance[1:2] if len(self) > 1 else [1.0], variance[1:]))

    @property
    def posterior_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of q(z_{t-1} | z_t, z_0), from the clipped log variance."""
        return np.exp(0.5 * self.posterior_log_variance_clipped)

    def respaced(self, timesteps: Sequence[int]) -> ResidualShiftSchedule:
        """The chain through some of its steps, ascending."""
        kept = kept_timesteps(timesteps, len(self))
        return replace(self, sqrt_eta=self.sqrt_eta[kept], timesteps=tuple(self.timesteps[index] for index in kept))


def kept_timesteps(timesteps: Sequence[int], total: int) -> list[int]:
    """Sort the timesteps that a respaced chain of ``total`` steps keeps.

    Raises:
        ConfigError: If there is none, or one that the chain does not have.
    """
    kept = sorted(set(timesteps))
    if not kept or kept[0] < 0 or kept[-1] >= total:
        raise ConfigError(f"timesteps must lie in 0 to {total - 1}, got {list(timesteps)}")
    return kept


def trailing_timesteps(total: int, steps: int) -> list[int]:
    """Evenly spaced timesteps that end with the last, where the chain starts (arXiv 2305.08891).

    The chain starts from ``z_y`` and noise, which is what the last timestep was trained on and no earlier one.

    >>> trailing_timesteps(15, 4), trailing_timesteps(15, 1)
    ([3, 7, 11, 14], [14])
    """
    _check_steps(total, steps)
    return [-(-(index + 1) * total // steps) - 1 for index in range(steps)]


def _check_steps(total: int, steps: int) -> None:
    if not 1 <= steps <= total:
        raise ConfigError(f"steps must lie between 1 and {total}, the length of the trained chain, got {steps}")
