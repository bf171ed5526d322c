"""Both stages of the Real-ESRGAN degradation (arXiv 2107.10833), for photographs.

Blur, random resize, noise and JPEG; then, in half of the images, another blur, resize and noise; last the resize to the
low resolution with a sinc low-pass, and JPEG once more, in either order. CT keeps the first stage alone
(:mod:`qdm_med.data.degradation.real_esrgan`). Everything is drawn per image and recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.data.degradation.checks import require_one_scale
from qdm_med.data.degradation.jpeg import jpeg_round_trip
from qdm_med.data.degradation.kernels import filter_images, gaussian_kernel, plateau_kernel, sinc_kernel
from qdm_med.data.degradation.noise import add_gaussian_noise, add_poisson_noise
from qdm_med.data.degradation.second_order_params import (
    JPEG_FIRST,
    LARGE_KERNEL,
    LARGE_SINC_CUTOFF,
    RESIZE_MODES,
    SINC_CUTOFF,
    Blur,
    BlurKind,
    Range,
    SecondOrderConfig,
    SecondOrderParams,
    Stage,
    StageConfig,
)
from qdm_med.errors import DataError


def sample_second_order(config: SecondOrderConfig, scale: int, rng: np.random.Generator) -> SecondOrderParams:
    """Draw the parameters of one photograph; the only place where this family is random."""
    first, first_quality = _sample_stage(config, config.first, rng), rng.uniform(*config.jpeg_quality)
    second = _sample_stage(config, config.second, rng)
    last_sinc = Blur("sinc", _sample_size(config, rng), cutoff=rng.uniform(*SINC_CUTOFF))
    return SecondOrderParams(
        scale=scale,
        first=first,
        first_quality=first_quality,
        second=second if rng.random() < config.second_probability else None,
        last_mode=str(rng.choice(RESIZE_MODES)),
        last_sinc=last_sinc if rng.random() < config.final_sinc_probability else None,
        last_quality=rng.uniform(*config.jpeg_quality),
        jpeg_before_resize=bool(rng.random() < JPEG_FIRST),
    )


def _sample_stage(config: SecondOrderConfig, stage: StageConfig, rng: np.random.Generator) -> Stage:
    blur = _sample_blur(config, stage, rng)
    is_gaussian = rng.random() < stage.gaussian_probability
    low, high = stage.resize_range
    direction = str(rng.choice(["up", "down", "keep"], p=stage.resize_probabilities))
    return Stage(
        blur=blur if rng.random() < stage.blur_probability else None,
        resize_factor=rng.uniform(*{"up": (1.0, high), "down": (low, 1.0), "keep": (1.0, 1.0)}[direction]),
        resize_mode=str(rng.choice(RESIZE_MODES)),
        noise="gaussian" if is_gaussian else "poisson",
        noise_strength=rng.uniform(*(stage.gaussian_sigma if is_gaussian else stage.poisson_scale)),
        noise_grey=bool(rng.random() < stage.grey_probability),
        noise_seed=int(rng.integers(2**32)),
    )


def _sample_blur(config: SecondOrderConfig, stage: StageConfig, rng: np.random.Generator) -> Blur:
    size = _sample_size(config, rng)
    if rng.random() < config.sinc_probability:
        return Blur("sinc", size, cutoff=rng.uniform(*(SINC_CUTOFF if size < LARGE_KERNEL else LARGE_SINC_CUTOFF)))
    forms: tuple[BlurKind, ...] = ("gaussian", "generalised", "plateau")
    drawn = int(rng.choice(6, p=np.asarray(config.kernel_weights) / sum(config.kernel_weights)))
    form, round_one = forms[drawn // 2], drawn % 2 == 0
    sigma = (rng.uniform(*stage.blur_sigma), rng.uniform(*stage.blur_sigma))
    shapes = {"gaussian": (1.0, 1.0), "generalised": config.generalised_beta, "plateau": config.plateau_beta}
    return Blur(
        form,
        size,
        sigma=(sigma[0], sigma[0]) if round_one else sigma,
        theta=0.0 if round_one else rng.uniform(-math.pi, math.pi),
        beta=_sample_beta(shapes[form], rng),
    )


def _sample_beta(bounds: Range, rng: np.random.Generator) -> float:
    """Draw a shape: half lie below 1 and half above, so that a plateau's, which begins at 1, is 1 in half of the draws."""
    low, high = bounds
    return rng.uniform(low, 1.0) if rng.random() < 0.5 else rng.uniform(1.0, high)


def _sample_size(config: SecondOrderConfig, rng: np.random.Generator) -> int:
    smallest, largest = config.kernel_size
    return int(rng.choice(np.arange(smallest, largest + 1, 2)))


def degrade_second_order(high_res: Tensor, params: Sequence[SecondOrderParams]) -> Tensor:
    """Make low-resolution photographs; an image's result depends on its own parameters only, not on the batch.

    Args:
        high_res: ``(B, C, H, W)`` in [-1, 1], one channel or three; sides are multiples of the scale.
        params: One image's parameters each, all of one scale.

    Returns:
        ``(B, C, H / scale, W / scale)`` float32 in [-1, 1], on 256 levels.

    Raises:
        DataError: If the parameters do not fit the images.
    """
    require_one_scale(high_res, params)
    unit = (high_res.float() + 1.0) / 2.0
    low_res = torch.stack([_degrade(image, one) for image, one in zip(unit, params, strict=True)])
    return torch.round(low_res * 255.0) / 255.0 * 2.0 - 1.0


def _degrade(image: Tensor, params: SecondOrderParams) -> Tensor:
    """Take one ``(C, H, W)`` image in [0, 1] through all stages."""
    size = (image.shape[-2], image.shape[-1])
    low_size = (size[0] // params.scale, size[1] // params.scale)
    image = jpeg_round_trip(_pass(image, params.first, size), params.first_quality)
    if params.second is not None:
        image = _pass(image, params.second, low_size)
    if params.jpeg_before_resize:
        image = _last_resize(jpeg_round_trip(image, params.last_quality), params, low_size)
    else:
        image = jpeg_round_trip(_last_resize(image, params, low_size), params.last_quality)
    return image.clamp(0.0, 1.0)


def _pass(image: Tensor, stage: Stage, size: tuple[int, int]) -> Tensor:
    if stage.blur is not None:
        image = _blur(image, stage.blur)
    image = _resize(image, tuple(max(1, round(side * stage.resize_factor)) for side in size), stage.resize_mode)
    if stage.noise == "gaussian":
        sigma = stage.noise_strength / 255.0
        return add_gaussian_noise(image, sigma=sigma, grey=stage.noise_grey, seed=stage.noise_seed)
    return add_poisson_noise(image, scale=stage.noise_strength, grey=stage.noise_grey, seed=stage.noise_seed)


def _last_resize(image: Tensor, params: SecondOrderParams, size: tuple[int, int]) -> Tensor:
    image = _resize(image, size, params.last_mode).clamp(0.0, 1.0)
    return image if params.last_sinc is None else _blur(image, params.last_sinc).clamp(0.0, 1.0)


def kernel_of(blur: Blur) -> Tensor:
    """Make the kernel of a description, ``(size, size)`` float64, sum 1."""
    if blur.form == "sinc":
        return sinc_kernel(blur.size, blur.cutoff)
    make = plateau_kernel if blur.form == "plateau" else gaussian_kernel
    return make(blur.size, *blur.sigma, blur.theta, blur.beta)


def _blur(image: Tensor, blur: Blur) -> Tensor:
    if min(image.shape[-2:]) <= blur.size // 2:
        raise DataError(f"an image of {image.shape[-2]}x{image.shape[-1]} is too small to blur; take larger crops")
    return filter_images(image[None], kernel_of(blur)[None])[0]


def _resize(image: Tensor, size: tuple[int, ...], mode: str) -> Tensor:
    """Resize without anti-aliasing, outer edges in place, as the degradation is defined."""
    return image if tuple(image.shape[-2:]) == size else F.interpolate(image[None], size=size, mode=mode)[0]
