"""The schedule of latent diffusion (arXiv 2006.11239, 2112.10752), walked back as DDIM does (arXiv 2010.02502, eta 0).

The forward chain leaves the image for pure noise: ``z_t = sqrt(a_t) z_0 + sqrt(1 - a_t) noise``. What is known of the
image, ``z_y`` and the low-resolution slice, the network sees beside ``z_t``. MONAI's ``DDIMScheduler`` does the same
arithmetic, but takes every step back by ``T // steps`` whatever the distance of its timesteps: where ``steps`` does not divide
``T`` the noise that is left is not the one that the network is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qdm_med.diffusion.schedule import kept_timesteps
from qdm_med.errors import ConfigError


@dataclass(frozen=True)
class DdpmConfig:
    """Numbers of the schedule; the defaults are those of latent diffusion's super-resolution.

    Attributes:
        steps: T, length of the chain.
        beta_first: Variance that the first step adds.
        beta_last: Variance that the last step adds; between them its square root rises linearly.
    """

    steps: int = 1000
    beta_first: float = 0.0015
    beta_last: float = 0.0155

    kind: ClassVar[str] = "ddpm"
    starts_from_source: ClassVar[bool] = False
    """The way back starts from noise alone."""

    def __post_init__(self) -> None:
        """Check the ranges within which the image is lost step by step."""
        if self.steps < 2:
            raise ConfigError(f"schedule steps must be at least 2, got {self.steps}")
        if not 0 < self.beta_first <= self.beta_last < 1:
            raise ConfigError(f"betas must rise within (0, 1), got {self.beta_first} to {self.beta_last}")


@dataclass(frozen=True)
class DdpmSchedule:
    """Share of the image that is left after each step; a :class:`qdm_med.diffusion.chain.Chain`.

    Attributes:
        alpha_bar: ``(T,)`` float64, strictly decreasing in (0, 1): share of the variance that is the image's.
        timesteps: ``(T,)`` the timestep that the network is told at each index.
    """

    alpha_bar: NDArray[np.float64]
    timesteps: tuple[int, ...]

    start_share: ClassVar[float] = 0.0

    @classmethod
    def from_config(cls, config: DdpmConfig) -> DdpmSchedule:
        """Compute ``a_t``, the product of ``1 - beta`` up to step t."""
        beta = np.linspace(config.beta_first**0.5, config.beta_last**0.5, config.steps) ** 2
        return cls(np.cumprod(1 - beta), tuple(range(config.steps)))

    def __len__(self) -> int:
        """Count the steps, T."""
        return len(self.alpha_bar)

    @property
    def high_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_0`` in ``z_t``."""
        return np.sqrt(self.alpha_bar)

    @property
    def low_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_y`` in ``z_t``: none."""
        return np.zeros(len(self))

    @property
    def noise_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of the noise in ``z_t``."""
        return np.sqrt(1 - self.alpha_bar)

    @property
    def input_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of ``z_t`` for latents of unit variance."""
        return np.ones(len(self))

    @property
    def kept_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of ``z_t`` one step back: the noise that ``z_t`` holds, made smaller."""
        before = np.concatenate([[0.0], self.noise_std[:-1]])
        return before / self.noise_std

    @property
    def new_share(self) -> NDArray[np.float64]:
        """``(T,)`` factor of the predicted ``z_0`` one step back."""
        before = np.concatenate([[1.0], self.high_share[:-1]])
        return before - self.kept_share * self.high_share

    @property
    def posterior_std(self) -> NDArray[np.float64]:
        """``(T,)`` standard deviation of the noise that a step back adds: none, as eta is 0."""
        return np.zeros(len(self))

    def respaced(self, timesteps: Sequence[int]) -> DdpmSchedule:
        """The chain through some of its steps, ascending."""
        kept = kept_timesteps(timesteps, len(self))
        return replace(self, alpha_bar=self.alpha_bar[kept], timesteps=tuple(self.timesteps[index] for index in kept))
