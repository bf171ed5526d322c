"""Procedural CT slices whose truth is known: as sharp as wanted and free of noise, which no scanned reference is.

A reference of a scanner has its noise and its own blur, so a network that learns from references alone learns to
keep both. Here everything is known: regions of tissue, flat or with a texture of their own, discs, boxes, vessels, bars,
bones with a shell, patches of low contrast, over the whole HU scale. Sizes are in low-resolution ("source") pixels, so
that an image says the same at any magnification.

Four kinds of scene are drawn: tissues and organs, low contrast in soft tissue, vessels in soft tissue or lung, and flat
steps of any HU, where nothing is to be made of noise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from qdm_med.errors import ConfigError
from qdm_med.intensity import HU_MAX, HU_MIN

Image = NDArray[np.float32]
Mask = NDArray[np.bool_]

TISSUES: tuple[tuple[float, float, float], ...] = (
    (0.16, -1000.0, -700.0),  # air and lung
    (0.13, -130.0, -60.0),  # fat
    (0.36, 0.0, 90.0),  # soft tissue
    (0.13, 120.0, 450.0),  # contrast medium, spongy bone
    (0.10, 450.0, 1500.0),  # bone
    (0.06, 1500.0, 3000.0),  # enamel, metal
    (0.06, -900.0, -150.0),  # between lung and fat, where partial volumes lie
)
"""Share, lowest and highest HU of the tissues that regions are filled with."""

TEXTURES: tuple[tuple[float, float], ...] = ((-500.0, 40.0), (150.0, 8.0), (400.0, 15.0), (HU_MAX, 200.0))
"""Up to which HU a tissue's texture has at most which standard deviation in HU."""

EDGE = (0.2, 1.2)
"""Standard deviation of the blur of all edges, in high-resolution pixels."""


@dataclass(frozen=True)
class SyntheticConfig:
    """Weights with which each kind of scene is drawn.

    Attributes:
        organs: Weight of scenes of several tissues.
        low_contrast: Weight of scenes of faint discs in soft tissue.
        vessels: Weight of scenes of vessels.
        steps: Weight of scenes of flat regions of any HU.
        flat_share: Share of the regions of all scenes without a texture of their own.
    """

    organs: float = 0.5
    low_contrast: float = 0.17
    vessels: float = 0.15
    steps: float = 0.18
    flat_share: float = 0.5

    def __post_init__(self) -> None:
        """Reject weights that sum to nothing."""
        weights = (self.organs, self.low_contrast, self.vessels, self.steps)
        if min(weights) < 0 or not sum(weights) or not 0 <= self.flat_share <= 1:
            raise ConfigError(f"weights of scenes must not be negative nor all 0, and flat_share in [0, 1], got {self}")


def synthetic_slice(config: SyntheticConfig, side: int, scale: int, rng: np.random.Generator) -> Image:
    """Draw one slice.

    Args:
        config: Weights of the scenes.
        side: Rows and columns in high-resolution pixels.
        scale: High-resolution pixels a source pixel.
        rng: Source of everything random.

    Returns:
        ``(side, side)`` float32 HU in [-1024, 3071].
    """
    weights = np.array([config.organs, config.low_contrast, config.vessels, config.steps])
    scene = (_organs, _low_contrast, _vessels, _steps)[rng.choice(4, p=weights / weights.sum())]
    canvas = Canvas(side, scale, config.flat_share, rng)
    scene(canvas)
    sharp = gaussian_filter(canvas.hu, rng.uniform(*EDGE)) if rng.random() < 0.8 else canvas.hu
    return np.clip(sharp, HU_MIN, HU_MAX).astype(np.float32)


class Canvas:
    """A slice in the making.

    Args:
        side: Rows and columns in high-resolution pixels.
        scale: High-resolution pixels a source pixel.
        flat_share: Share of the regions without a texture.
        rng: Source of everything random.
    """

    def __init__(self, side: int, scale: int, flat_share: float, rng: np.random.Generator) -> None:
        self.side, self.scale, self.flat_share, self.rng = side, scale, flat_share, rng
        centres = (np.arange(side, dtype=np.float32) + 0.5) / scale
        self._row, self._column = centres[:, None], centres[None, :]
        self.hu = np.zeros((side, side), dtype=np.float32)

    @property
    def extent(self) -> float:
        """Side in source pixels."""
        return self.side / self.scale

    def place(self) -> tuple[float, float]:
        """Draw a place on the canvas, in source pixels."""
        row, column = self.rng.uniform(0, self.extent, 2)
        return float(row), float(column)

    def size(self, smallest: float, largest: float) -> float:
        """Draw a size in source pixels, evenly on a logarithmic scale; on a small canvas the smallest."""
        return float(np.exp(self.rng.uniform(np.log(smallest), np.log(max(smallest, largest)))))

    def axes(self, centre: tuple[float, float], angle: float) -> tuple[Image, Image]:
        """Coordinates along and across a direction through ``centre``, in source pixels."""
        row, column = self._row - centre[0], self._column - centre[1]
        sine, cosine = np.float32(np.sin(angle)), np.float32(np.cos(angle))
        along: Image = np.asarray(column * cosine + row * sine, dtype=np.float32)
        across: Image = np.asarray(row * cosine - column * sine, dtype=np.float32)
        return along, across

    def disc(self, centre: tuple[float, float], radius: float) -> Mask:
        """Mark a round region."""
        return (self._row - centre[0]) ** 2 + (self._column - centre[1]) ** 2 < radius**2

    def fill(self, region: Mask, hu: float) -> None:
        """Fill a region with a tissue, flat or textured."""
        self.hu[region] = hu
        if self.rng.random() >= self.flat_share:
            self.hu[region] += self.texture(hu)[region]

    def add(self, region: Mask, hu: float) -> None:
        """Add HU to a region."""
        self.hu[region] += np.float32(hu)

    def texture(self, hu: float) -> Image:
        """Draw a Gaussian field with the amplitude of the tissue at ``hu`` and a grain of half to five source pixels."""
        largest = next(deviation for limit, deviation in TEXTURES if hu <= limit)
        frequency = np.hypot(np.fft.fftfreq(self.side)[:, None], np.fft.rfftfreq(self.side)[None, :])
        grain = self.size(0.3, 3.0) * self.scale
        amplitude = (frequency + 1 / self.side) ** -self.rng.uniform(0, 1.5) * np.exp(-((frequency * grain) ** 2) * 2)
        white = self.rng.standard_normal((self.side, self.side), dtype=np.float32)
        field = np.fft.irfft2(np.fft.rfft2(white) * amplitude, s=(self.side, self.side))
        return (field * (self.rng.uniform(0, largest) / max(field.std(), 1e-6))).astype(np.float32)


def tissue(rng: np.random.Generator) -> float:
    """Draw the HU of a tissue."""
    shares = np.array([share for share, _, _ in TISSUES])
    _, low, high = TISSUES[rng.choice(len(TISSUES), p=shares / shares.sum())]
    return float(rng.uniform(low, high))


def _organs(canvas: Canvas) -> None:
    rng = canvas.rng
    canvas.fill(np.ones(canvas.hu.shape, dtype=bool), tissue(rng))
    shapes: tuple[Callable[[Canvas], Mask], ...] = (_ellipse, _box, _tube, _bars)
    for _ in range(rng.integers(3, 20)):
        if rng.random() < 0.12:
            _bone(canvas)
            continue
        region = shapes[rng.choice(4, p=[0.55, 0.17, 0.18, 0.1])](canvas)
        if rng.random() < 0.6:
            canvas.fill(region, tissue(rng))
        else:
            canvas.add(region, rng.choice([-1, 1]) * rng.uniform(5, 60))


def _ellipse(canvas: Canvas) -> Mask:
    radius, ratio = canvas.size(0.4, canvas.extent / 2), canvas.rng.uniform(0.25, 1)
    along, across = canvas.axes(canvas.place(), canvas.rng.uniform(0, np.pi))
    return along**2 + (across / ratio) ** 2 < radius**2


def _box(canvas: Canvas) -> Mask:
    half, ratio = canvas.size(0.4, canvas.extent / 2), canvas.rng.uniform(0.1, 1)
    along, across = canvas.axes(canvas.place(), canvas.rng.uniform(0, np.pi))
    return (np.abs(along) < half) & (np.abs(across) < half * ratio)


def _tube(canvas: Canvas) -> Mask:
    half = canvas.size(0.2, 3.0)
    along, across = canvas.axes(canvas.place(), canvas.rng.uniform(0, np.pi))
    bend = canvas.rng.uniform(0, 2.5) * np.sin(along / canvas.size(2, 12))
    return np.abs(across + bend) < half


def _bars(canvas: Canvas) -> Mask:
    period, half = canvas.size(1.2, 8.0), canvas.size(2, canvas.extent / 2)
    along, across = canvas.axes(canvas.place(), canvas.rng.uniform(0, np.pi))
    return ((along / period) % 1 < 0.5) & (np.abs(along) < half) & (np.abs(across) < half)


def _bone(canvas: Canvas) -> None:
    """Draw a shell of cortical bone around marrow or trabeculae."""
    rng = canvas.rng
    radius, ratio, shell = canvas.size(2, canvas.extent / 2.5), rng.uniform(0.4, 1), canvas.size(0.3, 2.5)
    along, across = canvas.axes(canvas.place(), rng.uniform(0, np.pi))
    distance = np.sqrt(along**2 + (across / ratio) ** 2)
    canvas.fill(distance < radius, rng.uniform(700, 1800))
    inside = distance < radius - shell
    hu = rng.uniform(-60, 700)
    canvas.hu[inside] = hu
    if rng.random() < 0.7:
        grain = gaussian_filter(
            rng.standard_normal(canvas.hu.shape, dtype=np.float32), canvas.size(0.2, 1.2) * canvas.scale
        )
        canvas.hu[inside] += (grain * (rng.uniform(30, 250) / max(grain.std(), 1e-6)))[inside]


def _low_contrast(canvas: Canvas) -> None:
    """Draw faint discs, as of a contrast phantom or of lesions of the liver; few of them as faint as noise."""
    rng = canvas.rng
    canvas.fill(np.ones(canvas.hu.shape, dtype=bool), rng.uniform(-120, 130))
    for _ in range(int(rng.integers(1, 4)) if rng.random() < 0.5 else 0):
        canvas.add(_ellipse(canvas), rng.uniform(-60, 60))
    count = rng.uniform(0.1, 1) * canvas.extent**2 / 80
    for _ in range(max(1, round(count))):
        canvas.add(canvas.disc(canvas.place(), canvas.size(0.8, 5)), rng.choice([-1, 1]) * canvas.size(5, 60))


def _vessels(canvas: Canvas) -> None:
    """Draw vessels seen end on and along, in soft tissue or lung."""
    rng = canvas.rng
    in_lung = rng.random() < 0.5
    background = rng.uniform(-920, -750) if in_lung else rng.uniform(-100, 90)
    canvas.fill(np.ones(canvas.hu.shape, dtype=bool), background)
    inside = (-100.0, 150.0) if in_lung else (120.0, 450.0)
    for _ in range(max(2, round(rng.uniform(0.2, 1.2) * canvas.extent**2 / 80))):
        hu = rng.uniform(*inside)
        region = _tube(canvas) if rng.random() < 0.2 else canvas.disc(canvas.place(), canvas.size(0.4, 3.5))
        canvas.hu[region] = hu


def _steps(canvas: Canvas) -> None:
    """Draw flat regions of any HU: an image of noise alone must come out without structure."""
    rng = canvas.rng
    canvas.hu[:] = rng.uniform(-1000, 3000) if rng.random() < 0.5 else tissue(rng)
    for _ in range(rng.integers(0, 7)):
        radius = canvas.size(3, canvas.extent)
        region = canvas.disc(canvas.place(), radius) if rng.random() < 0.6 else _box(canvas)
        canvas.hu[region] = rng.uniform(-1000, 3000) if rng.random() < 0.5 else tissue(rng)
