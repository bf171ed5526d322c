"""A degradation closer to how a CT image comes to be: large pixels, then noise, then the reconstruction kernel.

Three steps, all in HU, which are linear in the attenuation that a scanner averages:

1. *Area averaging.* A coarser detector and a coarser grid average the attenuation over each low-resolution pixel. (They
   average intensities, whose logarithm differs a little at sharp edges; this is neglected.)
2. *Quantum noise*, white before reconstruction: photons are counted independently, and the standard deviation in the
   image falls with the square root of their number. It is of one strength all over the slice, in HU; on
   :class:`~qdm_med.intensity.CompandedRange` it is therefore four times as strong in soft tissue, in network units, as
   in lung, where the Real-ESRGAN family's is equally strong. Electronic noise adds its variance to the same white noise
   and needs no parameter of its own.
3. *The reconstruction kernel.* The image is multiplied by the kernel's modulation transfer function, and the noise
   coloured by it: filtered back-projection weights frequencies by the ramp ``f`` and spreads them over rings of
   circumference ``2 pi f``, so that a noise power spectrum is ``f MTF(f)^2``, without any power at ``f = 0`` (Riederer,
   Pelc and Chesler, Phys. Med. Biol. 23 (1978) 446). The little power that sampling in pixels folds back to there
   (Kijewski and Judy, Phys. Med. Biol. 32 (1987) 565) is neglected.

There is neither JPEG nor rounding to 8 bits: the result is clipped to the range of the intensity mapping and rounded to
whole HU, as scanners store it. The ranges are choices of this project, not measurements of a scanner.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.errors import ConfigError, DataError
from qdm_med.intensity import IntensityMap
from qdm_med.keys import recorded

Range = tuple[float, float]


@dataclass(frozen=True)
class ScannerConfig:
    """Distributions that the parameters of :class:`ScannerParams` are drawn from.

    Attributes:
        kernel_frequency: Range of the frequency at which the kernel, without its boost, passes half, in cycles a
            low-resolution pixel: 0.25 is a smooth kernel, 0.5 the highest frequency of the grid, more is hardly a blur.
        kernel_boost: Range of the edge enhancement; above 1 the kernel passes more than all of the middle frequencies
            (at 1.8 up to 1.15), as sharp kernels do.
        noise_hu: Range of the noise before the kernel, in HU, drawn evenly on a logarithmic scale; 50 HU are the
            strongest Gaussian noise of the Real-ESRGAN family in soft tissue.
    """

    kernel_frequency: Range = (0.25, 0.6)
    kernel_boost: Range = (0.0, 1.8)
    noise_hu: Range = (3.0, 50.0)

    def __post_init__(self) -> None:
        """Reject ranges that cannot be."""
        for name in ("kernel_frequency", "noise_hu"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be a positive, ascending range, got {(low, high)}")
        low, high = self.kernel_boost
        if not 0 <= low <= high:
            raise ConfigError(f"kernel_boost must be an ascending range from 0 on, got {(low, high)}")

    def draw(self, scale: int, rng: np.random.Generator) -> ScannerParams:
        """Draw the parameters of one image; the only place where this family is random."""
        weakest, strongest = self.noise_hu
        return ScannerParams(
            scale=scale,
            kernel_frequency=rng.uniform(*self.kernel_frequency),
            kernel_boost=rng.uniform(*self.kernel_boost),
            noise_hu=math.exp(rng.uniform(math.log(weakest), math.log(strongest))),
            noise_seed=int(rng.integers(2**32)),
        )


@dataclass(frozen=True)
class ScannerParams:
    """Parameters of one image, from which its low-resolution image can be made again.

    Attributes:
        scale: High-resolution pixels a low-resolution pixel, along each side.
        kernel_frequency: Frequency ``f_half`` at which the kernel without its boost passes half, in cycles a
            low-resolution pixel.
        kernel_boost: Edge enhancement ``b`` of ``MTF(f) = (1 + b x) exp(-x)``, ``x = ln 2 (f / f_half)^2``.
        noise_hu: Standard deviation in HU that the noise would have under a kernel that passes everything.
        noise_seed: Key of the noise.
    """

    kind: ClassVar[str] = "scanner"

    scale: int
    kernel_frequency: float
    kernel_boost: float
    noise_hu: float
    noise_seed: int

    def noise_free(self) -> ScannerParams:
        """The same without noise: the deterministic part of the degradation."""
        return replace(self, noise_hu=1e-6)


def degrade_scanner(high_res: Tensor, params: Sequence[ScannerParams], intensity: IntensityMap) -> Tensor:
    """Make low-resolution images; the interface is :func:`qdm_med.data.degradation.degrade.degrade`.

    Args:
        high_res: ``(B, C, H, W)`` in [-1, 1]; sides are multiples of the scale.
        params: One image's parameters each, all of one scale.
        intensity: Mapping between HU and [-1, 1].

    Returns:
        ``(B, C, H / scale, W / scale)`` float32 in [-1, 1], on the device of ``high_res``.

    Raises:
        DataError: If less than two low-resolution pixels are left along a side.
    """
    scale = params[0].scale
    height, width = high_res.shape[-2:]
    if min(height, width) < 2 * scale:
        raise DataError(f"an image of {height}x{width} is smaller than two pixels at scale {scale}; take a larger crop")
    hu = torch.from_numpy(intensity.to_hu(high_res.detach().float().cpu().numpy())).to(high_res.device)
    averaged = F.avg_pool2d(hu, scale)
    reconstructed = torch.stack([_reconstruct(image, one) for image, one in zip(averaged, params, strict=True)])
    stored = intensity.to_unit(torch.round(reconstructed).cpu().numpy())
    return torch.from_numpy(stored).to(high_res.device)


def _reconstruct(image: Tensor, params: ScannerParams) -> Tensor:
    """Pass ``(C, H, W)`` HU through the kernel, and add the kernel's noise."""
    mirrored = torch.cat([image, image.flip(-1)], dim=-1)
    mirrored = torch.cat([mirrored, mirrored.flip(-2)], dim=-2)  # else opposite borders would blur into each other
    rows, columns = image.shape[-2:]
    signal = _filter(mirrored, _mtf(_frequencies(mirrored), params))[..., :rows, :columns]
    white = recorded(params.noise_seed).standard_normal(tuple(image.shape), dtype=np.float32)
    frequency = _frequencies(image)
    ramp = torch.sqrt(frequency / frequency.mean())  # of mean square 1: it keeps the variance of white noise
    noise = _filter(torch.from_numpy(white).to(image), ramp * _mtf(frequency, params))
    return signal + params.noise_hu * noise


def _mtf(frequency: Tensor, params: ScannerParams) -> Tensor:
    x = math.log(2) * (frequency / params.kernel_frequency) ** 2
    return (1 + params.kernel_boost * x) * torch.exp(-x)


def _frequencies(image: Tensor) -> Tensor:
    """Radial frequencies of an image's Fourier transform, ``(H, W)``, in cycles a pixel."""
    rows, columns = (torch.fft.fftfreq(length, device=image.device) for length in image.shape[-2:])
    return torch.hypot(rows[:, None], columns[None, :])


def _filter(image: Tensor, response: Tensor) -> Tensor:
    """Multiply the Fourier transform of ``(C, H, W)`` by a real, even response ``(H, W)``."""
    spectrum = torch.fft.rfft2(image)
    return torch.fft.irfft2(spectrum * response[:, : spectrum.shape[-1]], s=image.shape[-2:])
