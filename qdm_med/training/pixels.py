"""The autoencoder without weights, layout ``pixels``: only the divisor of its latents is measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from qdm_med.data.degradation.degrade import CLINICAL
from qdm_med.data.pairs import full_pairs
from qdm_med.data.store.slices import SliceStore
from qdm_med.intensity import IntensityMap
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig, KlVae
from qdm_med.resample import upsample

MEASURED = 18
"""Training slices, evenly spaced, that are measured."""


def measured_autoencoder(
    store: SliceStore, config: AutoencoderConfig, intensity: IntensityMap, scales: tuple[int, ...]
) -> KlVae:
    """Make an autoencoder of layout ``pixels``, in whose latents the shift to the truth has about unit variance.

    The diffusion's noise is told in units of the latents. What it has to cover is the shift from the interpolated slice to the
    true one, so its root mean square at the smallest scale, to two digits, is what latents are divided by.

    Args:
        store: Slices; those of the train split are degraded as clinical ones are.
        config: Shape, of layout ``pixels``.
        intensity: HU to [-1, 1].
        scales: Magnifications.
    """
    squares = list(_shifts(store, intensity, min(scales)))
    autoencoder = KlVae(config)
    deviation = round(float(np.sqrt(np.mean(squares))), 2) or 1.0
    autoencoder.set_latent_statistics(
        torch.zeros(config.latent_channels), torch.full((config.latent_channels,), deviation)
    )
    return autoencoder


def _shifts(store: SliceStore, intensity: IntensityMap, scale: int) -> Iterator[float]:
    """Mean square of the shift of each measured slice."""
    every = max(1, len(store.indices("train")) // MEASURED)
    for pair in full_pairs(store, "train", scale, CLINICAL, intensity=intensity, every=every):
        yield float((pair.high_res - upsample(pair.low_res, scale)).square().mean())
