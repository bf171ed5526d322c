"""Released checkpoint files of the paper, converted to ours and back; :mod:`qdm_med.checkpoints.released_names` has the names."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qdm_med.checkpoints.file import load_fitting, read_tensors, save_atomically
from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.checkpoints.released_names import (
    StateDict,
    autoencoder_config_from_released,
    autoencoder_from_released,
    autoencoder_to_released,
    denoiser_config_from_released,
    denoiser_from_released,
    denoiser_to_released,
)
from qdm_med.errors import CheckpointError
from qdm_med.intensity import HuWindow
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

MISFIT = "its weights do not fit the shape that they imply"
"""Complaint about a released file; follows its path."""

_WRAPPERS = ("state_dict", "params_ema", "params", "model", "ema")
"""Keys under which trainers put a state dict."""

_PREFIX = re.compile(r"^(module\.|_orig_mod\.)+")
"""Prefixes that distributed and compiled modules add to names."""


def read_released(path: Path) -> StateDict:
    """Read a foreign state dict; pickles are read with ``weights_only=True`` and can run no code.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds anything but tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)[0]
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; give the path of a .pth or .safetensors file")
    try:
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(f"{path}: cannot be read as weights alone ({reason})") from None
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
            break
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise CheckpointError(f"{path}: holds no state dict of tensors; export the weights alone")
    return {_PREFIX.sub("", str(key)): value for key, value in loaded.items()}


def from_released(
    denoiser: Path,
    autoencoder: Path,
    out: Path,
    *,
    scale: int,
    heads: int | None = None,
    latent_scale: float = 0.1,
    intensity: HuWindow | None = None,
) -> str:
    """Convert a released denoiser and its autoencoder into one checkpoint of ours; return its hash.

    Args:
        denoiser: Released denoiser.
        autoencoder: Released latent-diffusion autoencoder.
        out: Checkpoint to write.
        scale: Magnification that the denoiser was trained for.
        heads: Attention heads; default one per 64 features.
        latent_scale: Latent scale factor (0.1 for the medical autoencoder, as released).
        intensity: Window that the release was trained on.

    Raises:
        CheckpointError: If a file is not what it should be.
    """
    weights, autoencoder_weights = read_released(denoiser), read_released(autoencoder)
    shape = denoiser_config_from_released(weights, heads=heads)
    autoencoder_shape = autoencoder_config_from_released(autoencoder_weights)
    network, kl_vae = TwoStreamDenoiser(shape), KlVae(autoencoder_shape)
    state = autoencoder_from_released(autoencoder_weights, autoencoder_shape)
    state["latent_mean"] = torch.zeros(autoencoder_shape.latent_channels)
    state["latent_scale"] = torch.full((autoencoder_shape.latent_channels,), latent_scale)
    load_fitting(network, denoiser_from_released(weights), f"{denoiser}: {MISFIT}")
    load_fitting(kl_vae, state, f"{autoencoder}: {MISFIT}")
    card = ModelCard(
        name=denoiser.stem,
        autoencoder=autoencoder_shape,
        denoiser=shape,
        intensity=intensity or HuWindow(),
        scales=(scale,),
        steps=(15,),
        training={"task": "converted from a released checkpoint"},
    )
    return save_checkpoint(out, card, kl_vae, network)


def to_released(checkpoint: Path, denoiser: Path, autoencoder: Path) -> None:
    """Write a checkpoint of the released layout as the two state dicts of the release, as safetensors.

    Raises:
        CheckpointError: If the checkpoint has another layout.
    """
    ours = load_checkpoint(checkpoint)
    if (
        not isinstance(ours.denoiser, TwoStreamDenoiser)
        or ours.card.autoencoder.layout != "latent-diffusion"
        or ours.denoiser.config.trunk_channels
        or not ours.denoiser.config.upstream
    ):
        raise CheckpointError(f"{checkpoint}: {ours.card.name} has no counterpart in the released layout")
    released = denoiser_to_released(ours.denoiser)
    save_atomically(denoiser, released, {})
    state = autoencoder_to_released(ours.autoencoder.state_dict(), ours.card.autoencoder)
    save_atomically(autoencoder, state, {})
