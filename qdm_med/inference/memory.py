"""Memory that a run will take, and the largest tiles that fit into a limit.

The figures are upper bounds fitted to measured peaks on CPUs; a test holds them against the operating system's count.
"""

from __future__ import annotations

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import ConfigError
from qdm_med.inference.tiling import AnyTiling, Tiling
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.models.network import LatentNetworkConfig

PROGRAM = 640 * 2**20
"""Bytes of Python with PyTorch and the embedded model, before the first slice."""

MONAI = 320 * 2**20
"""Further bytes of the library that a U-Net comes from."""

SLICE_BYTES = 64
"""Bytes an output pixel of a whole slice: fusion in float64, HU, bounds, and one slice that waits to be written."""

UNCERTAINTY_BYTES = 64
"""Further bytes an output pixel where the spread of the samples is wanted: its sums, a sample, and the map being written."""


def activations(autoencoder: AutoencoderConfig, network: LatentNetworkConfig | None) -> int:
    """Floats an output pixel of a tile, over all layers that are in memory at once.

    The light layout works on half the side, without normalisation; the others on the whole side, with it. A denoiser
    needs 16 times its finest features, a latent pixel being 4 x 4 output pixels.
    """
    if autoencoder.layout == "pixels":
        per_pixel = 4
    else:
        widest = autoencoder.channels[0]
        per_pixel = 10 * widest // 4 if autoencoder.layout == "light" else 30 * widest
    return per_pixel + (network.finest_features if network else 0)


def peak_bytes(
    card: ModelCard, shape: tuple[int, int], tiling: AnyTiling, scale: int, *, uncertainty: bool = False
) -> int:
    """Largest memory of a run over slices of ``shape`` source pixels."""
    rows, columns = shape
    # What the networks see is rounded up to whole windows, of 16 source pixels at most.
    tile_rows, tile_columns = (-(-min(tiling.tile, side) // Tiling.step) * Tiling.step for side in (rows, columns))
    tile = tile_rows * tile_columns * scale**2
    program = PROGRAM + (MONAI if card.denoiser and card.denoiser.needs_monai else 0)
    a_pixel = SLICE_BYTES + (UNCERTAINTY_BYTES if uncertainty else 0)
    return program + rows * columns * scale**2 * a_pixel + 4 * tile * activations(card.autoencoder, card.denoiser)


def tile_within(
    card: ModelCard, shape: tuple[int, int], tiling: AnyTiling, scale: int, limit: int, *, uncertainty: bool = False
) -> AnyTiling:
    """Find the largest tiles, up to the given ones, with which a run stays below ``limit`` bytes.

    Raises:
        ConfigError: If even the smallest tiles need more.
    """
    for tile in (*range(tiling.tile, tiling.least, -tiling.step), tiling.least):
        if peak_bytes(card, shape, smaller := tiling.of_side(tile), scale, uncertainty=uncertainty) <= limit:
            return smaller
    least = peak_bytes(card, shape, tiling.of_side(tiling.least), scale, uncertainty=uncertainty)
    raise ConfigError(
        f"slices of {shape[0]}x{shape[1]} at x{scale} need {least / 2**30:.2f} GiB, the limit is {limit / 2**30:.2f}; "
        "raise --max-memory"
    )
