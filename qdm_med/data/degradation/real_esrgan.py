"""The paper's degradation: blur, random resize, noise, JPEG, resize to the low resolution, 8-bit rounding.

The first stage of Real-ESRGAN (arXiv 2107.10833, section 3) with the constants of QDM's medical benchmarks (arXiv
2503.12015), on the network's range. One of the families that :mod:`qdm_med.data.degradation.degrade` offers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.data.degradation.jpeg import jpeg_round_trip
from qdm_med.data.degradation.kernels import filter_images, gaussian_kernel, pad_kernel, sinc_kernel
from qdm_med.data.degradation.noise import add_gaussian_noise, add_poisson_noise
from qdm_med.errors import ConfigError, DataError
from qdm_med.intensity import IntensityMap

Range = tuple[float, float]

PADDED_BLUR_SIZE = 13
"""Common side of the kernels of a batch, in pixels; smaller ones are surrounded with zeros (QDM, arXiv 2503.12015). It is
also the smallest image side: reflecting the border needs that much."""


@dataclass(frozen=True)
class RealEsrganConfig:
    """Distributions that the degradation's parameters are drawn from; the defaults are those of training.

    Attributes:
        blur_size: Smallest and largest side of the blur kernel in pixels, both odd; odd sides between are as likely.
        blur_sigma: Range of the Gaussian's standard deviations in high-resolution pixels.
        isotropic_probability: Probability that a Gaussian is round; else it has two deviations and an angle.
        sinc_probability: Probability that a sinc low-pass takes the Gaussian's place.
        sinc_cutoff: Range of its cutoff in radians a pixel.
        resize_probabilities: Probabilities that the random resize enlarges, reduces, keeps the size.
        resize_range: Smallest and largest factor of the random resize; 1 lies between.
        resize_modes: Interpolations, equally likely; one image uses the same for both resizes.
        gaussian_probability: Probability of Gaussian noise; else it is Poisson.
        gaussian_sigma: Range of its standard deviation in 8-bit grey levels.
        poisson_scale: Range of the factor on photon noise.
        grey_probability: Probability that colour channels share their noise; without effect on one channel.
        jpeg_quality: Range of the JPEG quality.
        quantise: Round the result to 256 levels.
    """

    blur_size: tuple[int, int] = (3, 11)
    blur_sigma: Range = (0.2, 3.0)
    isotropic_probability: float = 0.6
    sinc_probability: float = 0.1
    sinc_cutoff: Range = (math.pi / 3, math.pi)
    resize_probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.5, 1.5)
    resize_modes: tuple[str, ...] = ("area", "bilinear", "bicubic")
    gaussian_probability: float = 0.4
    gaussian_sigma: Range = (1.0, 15.0)
    poisson_scale: Range = (0.05, 3.0)
    grey_probability: float = 0.4
    jpeg_quality: Range = (70.0, 95.0)
    quantise: bool = True

    def __post_init__(self) -> None:
        """Reject probabilities, ranges and kernel sizes that cannot be."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0 <= value <= 1:
                raise ConfigError(f"{field.name} must lie in [0, 1], got {value}")
        for name in ("blur_sigma", "sinc_cutoff", "resize_range", "gaussian_sigma", "poisson_scale", "jpeg_quality"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ConfigError(f"{name} must be a positive, ascending range, got {(low, high)}")
        if not math.isclose(sum(self.resize_probabilities), 1.0) or min(self.resize_probabilities) < 0:
            raise ConfigError(f"resize_probabilities must sum to 1, got {self.resize_probabilities}")
        if not self.resize_range[0] <= 1 <= self.resize_range[1]:
            raise ConfigError(f"resize_range must contain 1, got {self.resize_range}")
        smallest, largest = self.blur_size
        if smallest % 2 == 0 or largest % 2 == 0 or not 1 <= smallest <= largest <= PADDED_BLUR_SIZE:
            raise ConfigError(f"blur_size must be odd, ascending, at most {PADDED_BLUR_SIZE}, got {self.blur_size}")

    def draw(self, scale: int, rng: np.random.Generator) -> RealEsrganParams:
        """Draw the parameters of one image; the only place where this family is random."""
        smallest, largest = self.blur_size
        is_sinc = rng.random() < self.sinc_probability
        sigma_x, sigma_y = rng.uniform(*self.blur_sigma), rng.uniform(*self.blur_sigma)
        theta = rng.uniform(-math.pi, math.pi)
        if rng.random() < self.isotropic_probability:
            sigma_y, theta = sigma_x, 0.0
        is_gaussian = rng.random() < self.gaussian_probability
        strength = rng.uniform(*(self.gaussian_sigma if is_gaussian else self.poisson_scale))
        return RealEsrganParams(
            scale=scale,
            blur="sinc" if is_sinc else "gaussian",
            blur_size=int(rng.choice(np.arange(smallest, largest + 1, 2))),
            blur_sigma=(sigma_x, sigma_y),
            blur_theta=theta,
            blur_cutoff=rng.uniform(*self.sinc_cutoff),
            resize_factor=self._draw_resize(rng),
            resize_mode=str(rng.choice(self.resize_modes)),
            noise="gaussian" if is_gaussian else "poisson",
            noise_strength=strength,
            noise_grey=bool(rng.random() < self.grey_probability),
            noise_seed=int(rng.integers(2**32)),
            jpeg_quality=rng.uniform(*self.jpeg_quality),
            quantise=self.quantise,
        )

    def _draw_resize(self, rng: np.random.Generator) -> float:
        smallest, largest = self.resize_range
        ranges = {"up": (1.0, largest), "down": (smallest, 1.0), "keep": (1.0, 1.0)}
        return rng.uniform(*ranges[str(rng.choice(["up", "down", "keep"], p=self.resize_probabilities))])


@dataclass(frozen=True)
class RealEsrganParams:
    """Parameters of one image, from which its low-resolution image can be made again, bit for bit.

    :mod:`qdm_med.serialise` turns it into JSON and back without loss.

    Attributes:
        scale: High-resolution pixels a low-resolution pixel, along each side.
        blur: ``"gaussian"`` or ``"sinc"``.
        blur_size: Side of the kernel in pixels, odd.
        blur_sigma: Standard deviations along the kernel's axes in pixels (Gaussian).
        blur_theta: Angle of those axes in radians (Gaussian).
        blur_cutoff: Cutoff in radians a pixel (sinc).
        resize_factor: Random resize before the noise.
        resize_mode: Interpolation of both resizes.
        noise: ``"gaussian"`` or ``"poisson"``.
        noise_strength: Standard deviation in 8-bit grey levels, or factor on photon noise.
        noise_grey: Whether colour channels share their noise.
        noise_seed: Key of the noise.
        jpeg_quality: JPEG quality.
        quantise: Whether the result is rounded to 256 levels.
    """

    kind: ClassVar[str] = "real-esrgan"

    scale: int
    blur: str
    blur_size: int
    blur_sigma: tuple[float, float]
    blur_theta: float
    blur_cutoff: float
    resize_factor: float
    resize_mode: str
    noise: str
    noise_strength: float
    noise_grey: bool
    noise_seed: int
    jpeg_quality: float
    quantise: bool

    def noise_free(self) -> RealEsrganParams:
        """The deterministic part: blur and resizes, without noise, JPEG and rounding to 8 bits."""
        return replace(self, noise="gaussian", noise_strength=1e-6, jpeg_quality=99.999, quantise=False)


def degrade_real_esrgan(high_res: Tensor, params: Sequence[RealEsrganParams], intensity: IntensityMap) -> Tensor:
    """Make low-resolution images; the interface is :func:`qdm_med.data.degradation.degrade.degrade`.

    Args:
        high_res: ``(B, C, H, W)`` in [-1, 1], one channel or three; sides are multiples of the scale.
        params: One image's parameters each, all of one scale.
        intensity: Not looked at: the family works on [-1, 1] itself.

    Returns:
        ``(B, C, H / scale, W / scale)`` float32 in [-1, 1].

    Raises:
        DataError: If the images are smaller than a blur kernel.
    """
    height, width = high_res.shape[-2:]
    if min(height, width) < PADDED_BLUR_SIZE:
        raise DataError(
            f"an image of {height}x{width} is smaller than a blur kernel; crop it to at least {PADDED_BLUR_SIZE}"
        )
    unit = (high_res.float() + 1.0) / 2.0
    blurred = filter_images(unit, torch.stack([_kernel(one) for one in params]))
    low_size = (height // params[0].scale, width // params[0].scale)
    low_res = torch.stack([_degrade_blurred(image, one, low_size) for image, one in zip(blurred, params, strict=True)])
    return low_res * 2.0 - 1.0


def _kernel(params: RealEsrganParams) -> Tensor:
    if params.blur == "sinc":
        kernel = sinc_kernel(params.blur_size, params.blur_cutoff)
    else:
        kernel = gaussian_kernel(params.blur_size, *params.blur_sigma, params.blur_theta)
    return pad_kernel(kernel, PADDED_BLUR_SIZE)


def _degrade_blurred(image: Tensor, params: RealEsrganParams, low_size: tuple[int, int]) -> Tensor:
    """Resize, noise, JPEG and the last resize of one ``(C, H, W)`` image in [0, 1]."""
    height, width = image.shape[-2:]
    between = (round(height * params.resize_factor), round(width * params.resize_factor))
    resized = _resize(image, between, params.resize_mode)
    compressed = jpeg_round_trip(_add_noise(resized, params), params.jpeg_quality)
    low_res = _resize(compressed, low_size, params.resize_mode).clamp(0.0, 1.0)
    return torch.round(low_res * 255.0) / 255.0 if params.quantise else low_res


def _add_noise(image: Tensor, params: RealEsrganParams) -> Tensor:
    if params.noise == "gaussian":
        sigma = params.noise_strength / 255.0
        return add_gaussian_noise(image, sigma=sigma, grey=params.noise_grey, seed=params.noise_seed)
    return add_poisson_noise(image, scale=params.noise_strength, grey=params.noise_grey, seed=params.noise_seed)


def _resize(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resize one image without anti-aliasing, outer edges in place, as the paper's degradation does."""
    return image if image.shape[-2:] == size else F.interpolate(image[None], size=size, mode=mode)[0]
