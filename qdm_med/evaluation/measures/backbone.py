"""The backbone file of LPIPS, made from the weight file that torchvision publishes or from a saved LPIPS network."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from qdm_med.errors import CheckpointError
from qdm_med.files import whole_file

LAYERS = {
    "alexnet": re.compile(r"features\.(0|3|6|8|10)\.(weight|bias)"),
    "squeezenet1_1": re.compile(r"features\.(0|(3|4|6|7|9|10|11|12)\.(squeeze|expand1x1|expand3x3))\.(weight|bias)"),
}
"""Convolutions of torchvision's networks, whose features LPIPS compares."""
COUNTS = {"alexnet": 10, "squeezenet1_1": 50}
"""Number of these tensors."""


def write_backbone(weights: Path, out: Path) -> str:
    """Write the file for ``--lpips-backbone``; nothing is downloaded.

    Args:
        weights: torchvision's ``alexnet-owt-7be5be79.pth`` or ``squeezenet1_1-b8a52dc0.pth``, or the state of an
            ``lpips.LPIPS`` with its backbone, as .pth or .safetensors.
        out: File to create, ``.safetensors``.

    Returns:
        Name of the network.

    Raises:
        CheckpointError: If the file is missing, damaged or holds neither network, or ``out`` has another suffix.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: the backbone file must end in .safetensors")
    values = {_layer(name): value for name, value in _read(weights).items()}
    for network, pattern in LAYERS.items():
        features = {name: value.contiguous() for name, value in values.items() if pattern.fullmatch(name)}
        if len(features) == COUNTS[network]:
            with whole_file(out) as place:
                safetensors.torch.save_file(features, place)
            return network
    raise CheckpointError(
        f"{weights}: holds the convolutions neither of alexnet nor of squeezenet1_1; give torchvision's weight file (the heads "
        "that the lpips package ships are not the backbone)"
    )


def _layer(name: str) -> str:
    """A name as torchvision's: ``lpips`` cuts the network into slices but keeps the number of each layer."""
    return re.sub(r"^(net\.)?slice\d+\.", "features.", name)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        values = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path}: no weight file can be read ({type(error).__name__}); download it again"
        ) from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: holds no named weights; give torchvision's weight file")
    return {name: value for name, value in values.items() if isinstance(value, Tensor)}
