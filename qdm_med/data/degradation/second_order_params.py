"""Parameters of the degradation of photographs, and the distributions that they are drawn from.

The numbers are those of Real-ESRGAN (arXiv 2107.10833) with QDM's probability of a second stage; docs/natural.md has a table
of all of them with their sources, which a test holds equal to what stands here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from qdm_med.errors import ConfigError

Range = tuple[float, float]
BlurKind = Literal["gaussian", "generalised", "plateau", "sinc"]

LARGE_KERNEL = 13
"""Side in pixels from which a sinc kernel may cut off lower frequencies."""

SINC_CUTOFF = (math.pi / 3, math.pi)
"""Range of a sinc's cutoff in radians a pixel; of the last one whatever its size."""

LARGE_SINC_CUTOFF = (math.pi / 5, math.pi)
"""The same of a large kernel that takes a blur's place."""

RESIZE_MODES = ("area", "bilinear", "bicubic")
"""Interpolations, equally often."""

JPEG_FIRST = 0.5
"""Probability that the last JPEG comes before the last resize and low-pass."""


def _require_probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name} must lie in [0, 1], got {value}")


@dataclass(frozen=True)
class StageConfig:
    """Distributions of one stage; the defaults are those of the first.

    Attributes:
        blur_probability: Probability of a blur.
        blur_sigma: Range of the kernels' standard deviations in pixels.
        resize_probabilities: Probabilities that the random resize enlarges, reduces, keeps the size.
        resize_range: Smallest and largest factor of the resize.
        gaussian_probability: Probability of Gaussian noise; else it is Poisson.
        gaussian_sigma: Range of its standard deviation in 8-bit grey levels.
        poisson_scale: Range of the factor on photon noise.
        grey_probability: Probability that colour channels share their noise.
    """

    blur_probability: float = 1.0
    blur_sigma: Range = (0.2, 3.0)
    resize_probabilities: tuple[float, float, float] = (0.2, 0.7, 0.1)
    resize_range: Range = (0.15, 1.5)
    gaussian_probability: float = 0.5
    gaussian_sigma: Range = (1.0, 30.0)
    poisson_scale: Range = (0.05, 3.0)
    grey_probability: float = 0.4

    def __post_init__(self) -> None:
        """Reject probabilities and ranges that cannot be."""
        for name in ("blur_probability", "gaussian_probability", "grey_probability"):
            _require_probability(name, getattr(self, name))
        if not math.isclose(sum(self.resize_probabilities), 1.0) or min(self.resize_probabilities) < 0:
            raise ConfigError(f"resize_probabilities must sum to 1, got {self.resize_probabilities}")
        if not 0 < self.resize_range[0] <= 1 <= self.resize_range[1]:
            raise ConfigError(f"resize_range must contain 1, got {self.resize_range}")


SECOND_STAGE = StageConfig(
    blur_probability=0.8,
    blur_sigma=(0.2, 1.5),
    resize_probabilities=(0.3, 0.4, 0.3),
    resize_range=(0.3, 1.2),
    gaussian_sigma=(1.0, 25.0),
    poisson_scale=(0.05, 2.5),
)
"""The second stage (arXiv 2107.10833)."""


@dataclass(frozen=True)
class SecondOrderConfig:
    """Distributions that the degradation of photographs is drawn from.

    Attributes:
        first: First stage.
        second: Second stage.
        second_probability: Probability of a second stage (QDM, arXiv 2503.12015).
        kernel_size: Smallest and largest side of the blur kernels in pixels, both odd.
        kernel_weights: Probabilities that a kernel is Gaussian, generalised Gaussian, plateau: of each the round ones, then those
            with two deviations and an angle.
        generalised_beta: Range of the shape of generalised Gaussians; half lie below 1, the Gaussian's.
        plateau_beta: Range of the shape of plateaus; half lie below 1 or, where the range begins there, at it.
        sinc_probability: Probability that a sinc low-pass takes a kernel's place.
        final_sinc_probability: Probability that one follows the last resize.
        jpeg_quality: Range of both JPEG qualities.
    """

    first: StageConfig = StageConfig()
    second: StageConfig = SECOND_STAGE
    second_probability: float = 0.5
    kernel_size: tuple[int, int] = (7, 21)
    kernel_weights: tuple[float, float, float, float, float, float] = (0.45, 0.25, 0.12, 0.03, 0.12, 0.03)
    generalised_beta: Range = (0.5, 4.0)
    plateau_beta: Range = (1.0, 2.0)
    sinc_probability: float = 0.1
    final_sinc_probability: float = 0.8
    jpeg_quality: Range = (30.0, 95.0)

    def __post_init__(self) -> None:
        """Reject probabilities and sizes that cannot be."""
        for name in ("second_probability", "sinc_probability", "final_sinc_probability"):
            _require_probability(name, getattr(self, name))
        for name in ("generalised_beta", "plateau_beta"):
            if not 0 < getattr(self, name)[0] <= 1 <= getattr(self, name)[1]:
                raise ConfigError(f"{name} must contain 1, got {getattr(self, name)}")
        smallest, largest = self.kernel_size
        if smallest % 2 == 0 or largest % 2 == 0 or not 1 <= smallest <= largest:
            raise ConfigError(f"kernel_size must be odd and ascending, got {self.kernel_size}")
        if not 0 < self.jpeg_quality[0] <= self.jpeg_quality[1] <= 100:
            raise ConfigError(f"jpeg_quality must be an ascending range up to 100, got {self.jpeg_quality}")

    @property
    def smallest_side(self) -> int:
        """Smallest side of an image in pixels that still holds half a kernel after the largest reduction."""
        return math.ceil((self.kernel_size[1] // 2 + 1) / self.first.resize_range[0])


@dataclass(frozen=True)
class Blur:
    """Description of one blur kernel.

    Attributes:
        form: Its family.
        size: Its side in pixels, odd.
        sigma: Standard deviations along its axes in pixels; none of a sinc.
        theta: Angle of those axes in radians.
        beta: Shape of a generalised Gaussian or a plateau.
        cutoff: Cutoff of a sinc in radians a pixel.
    """

    form: BlurKind
    size: int
    sigma: tuple[float, float] = (1.0, 1.0)
    theta: float = 0.0
    beta: float = 1.0
    cutoff: float = math.pi


@dataclass(frozen=True)
class Stage:
    """Parameters of one image in one stage.

    Attributes:
        blur: Its blur, if there is one.
        resize_factor: Size behind the stage: of the image in the first stage, of the low resolution in the second.
        resize_mode: Interpolation.
        noise: ``"gaussian"`` or ``"poisson"``.
        noise_strength: Standard deviation in 8-bit grey levels, or factor on photon noise.
        noise_grey: Whether colour channels share their noise.
        noise_seed: Key of the noise.
    """

    blur: Blur | None
    resize_factor: float
    resize_mode: str
    noise: Literal["gaussian", "poisson"]
    noise_strength: float
    noise_grey: bool
    noise_seed: int


@dataclass(frozen=True)
class SecondOrderParams:
    """Parameters of one photograph, from which its low-resolution image can be made again, bit for bit.

    Attributes:
        scale: High-resolution pixels a low-resolution pixel, along each side.
        first: First stage.
        first_quality: JPEG quality behind it.
        second: Second stage, if there is one.
        last_mode: Interpolation of the resize to the low resolution.
        last_sinc: Low-pass behind that resize, if there is one.
        last_quality: JPEG quality of the end.
        jpeg_before_resize: Whether the last JPEG comes before the last resize and low-pass instead of after them.
    """

    kind: ClassVar[str] = "real-esrgan-2"

    scale: int
    first: Stage
    first_quality: float
    second: Stage | None
    last_mode: str
    last_sinc: Blur | None
    last_quality: float
    jpeg_before_resize: bool
