"""Released checkpoint of the paper for photographs, to ours and back: denoiser and VQ autoencoder.

The released autoencoder is latent diffusion's ``VQModel`` (arXiv 2112.10752) with 4x downsampling, three latent channels
and 8192 codes; only names and shapes change, and a conversion there and back is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from qdm_med.checkpoints.file import load_fitting, save_atomically
from qdm_med.checkpoints.released import MISFIT, read_released
from qdm_med.checkpoints.released_names import (
    StateDict,
    autoencoder_names,
    denoiser_config_from_released,
    denoiser_from_released,
    denoiser_to_released,
    renamed_to_ours,
    renamed_to_theirs,
)
from qdm_med.errors import CheckpointError
from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.natural.checkpoint import NaturalCard, load_natural, save_natural

CODEBOOK = "quantize.embedding.weight"
"""The released codebook, by which a VQ autoencoder is known."""

STEPS = 15
"""Sampling steps of the release."""


def vq_config_from_released(released: Mapping[str, Tensor]) -> VqConfig:
    """Read a VQ autoencoder's shape off its released weights.

    Raises:
        CheckpointError: If the weights are not those of latent diffusion's VQ model.
    """
    try:
        codes, latent_channels = released[CODEBOOK].shape
        levels = 1 + max(int(key.split(".")[2]) for key in released if key.startswith("encoder.down."))
        blocks = 1 + max(int(key.split(".")[4]) for key in released if key.startswith("encoder.down.0.block."))
        widths = tuple(released[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels))
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"these weights are not a latent-diffusion VQ autoencoder: {error}") from None
    return VqConfig("latent-diffusion", codes, latent_channels, widths, (blocks,) * levels)


def _owners(config: VqConfig) -> dict[str, str]:
    """Released name and ours of every tensor's owner."""
    names = dict(autoencoder_names(len(config.channels), config.res_blocks[0]))
    return names | {"quantize.embedding": "quantiser.embedding"}


def vq_from_released(released: Mapping[str, Tensor], config: VqConfig) -> StateDict:
    """Rename a released VQ autoencoder's weights to ours; those of its training loss stay behind.

    Raises:
        CheckpointError: If the weights do not fit ``config``.
    """
    # The discriminator and LPIPS of its training.
    kept = {key: value for key, value in released.items() if not key.startswith("loss.")}
    return renamed_to_ours(kept, _owners(config))


def vq_to_released(state: Mapping[str, Tensor], config: VqConfig) -> StateDict:
    """Rename our weights of the latent-diffusion layout to the released names; latent statistics stay behind."""
    return renamed_to_theirs(state, _owners(config))


def is_vq(autoencoder: Path) -> bool:
    """Whether a released autoencoder is the one for photographs."""
    return CODEBOOK in read_released(autoencoder)


def from_released(
    denoiser: Path, autoencoder: Path, out: Path, *, scale: int, heads: int | None = None, latent_scale: float = 1.0
) -> str:
    """Convert a released denoiser and its VQ autoencoder into one checkpoint of ours; return its hash.

    Args:
        denoiser: Released denoiser.
        autoencoder: Released VQ autoencoder.
        out: Checkpoint to write.
        scale: Magnification that the denoiser was trained for.
        heads: Attention heads; default one per 64 features.
        latent_scale: Latent scale factor (1.0 for photographs, as released).

    Raises:
        CheckpointError: If a file is not what it should be.
    """
    weights, autoencoder_weights = read_released(denoiser), read_released(autoencoder)
    shape = denoiser_config_from_released(weights, heads=heads)
    vq_shape = vq_config_from_released(autoencoder_weights)
    network, vq = TwoStreamDenoiser(shape), VqAutoencoder(vq_shape)
    statistics = {
        "latent_mean": torch.zeros(vq_shape.latent_channels),
        "latent_scale": torch.full((vq_shape.latent_channels,), latent_scale),
    }
    load_fitting(network, denoiser_from_released(weights), f"{denoiser}: {MISFIT}")
    load_fitting(vq, vq_from_released(autoencoder_weights, vq_shape) | statistics, f"{autoencoder}: {MISFIT}")
    card = NaturalCard(
        name=denoiser.stem,
        autoencoder=vq_shape,
        denoiser=shape,
        scale=scale,
        steps=STEPS,
        training={"task": "converted from a released checkpoint"},
    )
    return save_natural(out, card, vq, network)


def to_released(checkpoint: Path, denoiser: Path, autoencoder: Path) -> None:
    """Write a checkpoint of the released layout as the two state dicts of the release, as safetensors.

    Raises:
        CheckpointError: If the checkpoint has another layout.
    """
    ours = load_natural(checkpoint)
    if (
        ours.denoiser is None
        or ours.card.autoencoder.layout != "latent-diffusion"
        or ours.denoiser.config.trunk_channels
    ):
        raise CheckpointError(f"{checkpoint}: {ours.card.name} has no counterpart in the released layout")
    save_atomically(denoiser, denoiser_to_released(ours.denoiser), {})
    save_atomically(autoencoder, vq_to_released(ours.autoencoder.state_dict(), ours.card.autoencoder), {})
