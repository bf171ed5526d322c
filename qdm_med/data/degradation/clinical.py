"""Degradation as clinical CT slices are sampled: a point spread wider than a pixel, and noise that a reconstruction coloured.

Real-ESRGAN's first stage makes pixels that are sharper than any scanner's, and white noise. A clinical slice is
oversampled: its point spread is one to two pixels wide, and its noise has little power at low frequencies, the kernel's
roll-off at high ones, and, behind shoulders and along ribs, a direction. Here, all in HU:

1. *Point spread.* A Gaussian whose full width at half maximum is given in low-resolution pixels, then the mean over each
   large pixel. A share of the images has the mean alone.
2. *Noise* of a given standard deviation, with the spectrum ``sqrt(f + f_0) exp(-0.4 (pi f w / 1.2)^2)``: the ramp of
   filtered back-projection (Riederer, Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446) with a floor ``f_0``, and a
   roll-off of width ``w``; white for a share. A share has most of its power around one direction (streaks).

There is neither JPEG nor rounding to 8 bits: the result is clipped to the range of the intensity mapping and rounded to
whole HU. The ranges are choices of this project, wide enough for what clinical series were measured to have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from qdm_med.errors import ConfigError
from qdm_med.intensity import IntensityMap
from qdm_med.keys import recorded

Range = tuple[float, float]

FWHM_PER_SIGMA = 2 * math.sqrt(2 * math.log(2))
"""Full width at half maximum of a Gaussian of unit standard deviation."""


@dataclass(frozen=True)
class ClinicalConfig:
    """Distributions that the parameters of :class:`ClinicalParams` are drawn from.

    Attributes:
        fwhm: Full width at half maximum of the point spread, in low-resolution pixels.
        sharp_share: Share of the images without a point spread beyond the pixel itself.
        noise_hu: Range of the noise's standard deviation in HU, drawn evenly on a logarithmic scale.
        quiet_share: Share of the images without noise.
        white_share: Share of the noisy images whose noise is white.
        directed_share: Share of the noisy images whose noise has a direction.
    """

    fwhm: Range = (0.6, 2.3)
    sharp_share: float = 0.2
    noise_hu: Range = (2.0, 45.0)
    quiet_share: float = 0.12
    white_share: float = 0.2
    directed_share: float = 0.35

    def __post_init__(self) -> None:
        """Reject ranges and shares that cannot be."""
        for name in ("fwhm", "noise_hu"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be a positive, ascending range, got {(low, high)}")
        for name in ("sharp_share", "quiet_share", "white_share", "directed_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"{name} must lie in [0, 1], got {getattr(self, name)}")

    def draw(self, scale: int, rng: np.random.Generator) -> ClinicalParams:
        """Draw the parameters of one image; the only place where this family is random."""
        weakest, strongest = self.noise_hu
        fwhm = float(rng.uniform(*self.fwhm))
        noise = math.exp(rng.uniform(math.log(weakest), math.log(strongest)))
        sharp, quiet, white, directed = (float(rng.random()) for _ in range(4))
        floor, rolled, direction, spread, isotropic = (float(rng.random()) for _ in range(5))
        is_white = white < self.white_share
        return ClinicalParams(
            scale=scale,
            fwhm=0.0 if sharp < self.sharp_share else fwhm,
            noise_hu=0.0 if quiet < self.quiet_share else noise,
            floor=1e6 if is_white else 1e-4 + 0.05 * floor,
            roll_off=0.0 if is_white else fwhm * (0.7 + 0.8 * rolled),
            direction=math.pi * direction,
            spread=0.2 + 0.4 * spread if directed < self.directed_share else 0.0,
            isotropic=0.05 + 0.45 * isotropic,
            noise_seed=int(rng.integers(2**32)),
        )


@dataclass(frozen=True)
class ClinicalParams:
    """Parameters of one image, from which its low-resolution image can be made again.

    Attributes:
        scale: High-resolution pixels a low-resolution pixel, along each side.
        fwhm: Full width at half maximum of the point spread in low-resolution pixels; 0: the pixel's own mean alone.
        noise_hu: Standard deviation of the noise in HU; 0: none.
        floor: Power of the noise's spectrum at frequency 0, ``f_0``; infinite: white noise.
        roll_off: Width ``w`` of the noise's roll-off in low-resolution pixels; 0: none.
        direction: Direction of the noise in radians.
        spread: Width of that direction, as a sine; 0: the noise has none.
        isotropic: Amplitude of what such noise has in all directions, against 1 along its own.
        noise_seed: Key of the noise.
    """

    kind: ClassVar[str] = "clinical"

    scale: int
    fwhm: float
    noise_hu: float
    floor: float
    roll_off: float
    direction: float
    spread: float
    isotropic: float
    noise_seed: int

    def noise_free(self) -> ClinicalParams:
        """The same without noise: the deterministic part of the degradation."""
        return replace(self, noise_hu=0.0)


def degrade_clinical(high_res: Tensor, params: Sequence[ClinicalParams], intensity: IntensityMap) -> Tensor:
    """Make low-resolution images; the interface is :func:`qdm_med.data.degradation.degrade.degrade`.

    Args:
        high_res: ``(B, C, H, W)`` in [-1, 1]; sides are multiples of the scale.
        params: One image's parameters each, all of one scale.
        intensity: Mapping between HU and [-1, 1].

    Returns:
        ``(B, C, H / scale, W / scale)`` float32 in [-1, 1], on the device of ``high_res``.
    """
    hu = intensity.to_hu(high_res.detach().float().cpu().numpy())
    stored = [np.round(_sampled(image, one)) for image, one in zip(hu, params, strict=True)]
    return torch.from_numpy(intensity.to_unit(np.stack(stored))).to(high_res.device)


def _sampled(image: NDArray[np.float32], params: ClinicalParams) -> NDArray[np.float32]:
    """``(C, H, W)`` HU -> ``(C, H / scale, W / scale)`` HU, noise added."""
    scale = params.scale
    sigma = params.fwhm * scale / FWHM_PER_SIGMA
    spread = gaussian_filter(image, (0, sigma, sigma), mode="nearest") if sigma else image
    channels, rows, columns = image.shape
    averaged = spread.reshape(channels, rows // scale, scale, columns // scale, scale).mean(axis=(2, 4))
    return averaged + clinical_noise(averaged.shape, params) if params.noise_hu else averaged


def clinical_noise(shape: tuple[int, ...], params: ClinicalParams) -> NDArray[np.float32]:
    """Noise of ``shape`` in HU, with exactly the standard deviation that ``params`` says."""
    white = recorded(params.noise_seed).standard_normal(shape, dtype=np.float32)
    shaped = np.fft.irfft2(np.fft.rfft2(white) * noise_amplitude((shape[-2], shape[-1]), params), s=shape[-2:])
    deviation = shaped.std()
    return np.asarray(shaped * (params.noise_hu / deviation if deviation else 0.0), dtype=np.float32)


def noise_amplitude(shape: tuple[int, int], params: ClinicalParams) -> NDArray[Any]:
    """Amplitude of the noise at the frequencies of a real Fourier transform, ``(rows, columns // 2 + 1)``, unscaled."""
    rows, columns = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(rows, columns)
    amplitude = np.sqrt(frequency + params.floor) * np.exp(-0.4 * (math.pi * frequency * params.roll_off / 1.2) ** 2)
    if not params.spread:
        return amplitude
    off_axis = np.sin(np.arctan2(rows, columns) - params.direction)
    return amplitude * (params.isotropic + np.exp(-((off_axis / params.spread) ** 2)))
