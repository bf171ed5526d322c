"""LPIPS (arXiv 1801.03924) with its backbone read from a file: never random, never downloaded."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from qdm_med.errors import CheckpointError, ConfigError

_BACKBONES = {
    "squeeze": ("features.12.expand3x3.bias", "torchvision's squeezenet1_1"),
    "alex": ("features.10.weight", "torchvision's alexnet"),
}
"""Name in the ``lpips`` package -> a layer that only it has, and whose features they are."""


class Lpips(nn.Module):
    """LPIPS v0.1 on the backbone that a file holds, with the linear heads that the ``lpips`` package ships.

    Values of different backbones are not comparable; published ones are mostly AlexNet's.

    Args:
        backbone: ``.npz`` or ``.safetensors`` with the convolutions of torchvision's ``squeezenet1_1`` or
            ``alexnet`` trained on ImageNet, keyed ``features.<layer>...``.

    Attributes:
        column: Title of its column, which names the backbone: ``lpips_squeeze`` or ``lpips_alex``.
        sha256: Checksum of the file.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds other layers.
        ConfigError: If the ``lpips`` package is not installed.
    """

    def __init__(self, backbone: Path | str) -> None:
        super().__init__()
        values = _read_backbone(Path(backbone))
        self.sha256 = hashlib.sha256(Path(backbone).read_bytes()).hexdigest()
        network = next((name for name, (layer, _) in _BACKBONES.items() if layer in values), "squeeze")
        self.column = f"lpips_{network}"
        self._lpips: Any = _heads_without_backbone(network)
        self._load(values, Path(backbone), network)
        self.requires_grad_(False)
        self.eval()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance of images in [-1, 1].

        Args:
            first: ``(B, C, H, W)``; a grey image is repeated to three channels.
            second: As ``first``.

        Returns:
            ``(B,)`` distances, 0 for equal images; differentiable in both.
        """
        distance: Tensor = self._lpips(_to_colour(first), _to_colour(second))
        return distance.flatten()

    def _load(self, values: dict[str, Tensor], source: Path, network: str) -> None:
        whose = _BACKBONES[network][1]
        # lpips cuts the backbone into slices but keeps the number of each layer: slice3.6.squeeze.weight.
        wanted = {re.sub(r"^slice\d+", "features", key): key for key in self._lpips.net.state_dict()}
        if wanted.keys() != values.keys():
            odd = sorted(wanted.keys() ^ values.keys())
            raise CheckpointError(
                f"{source} is no LPIPS backbone: {len(odd)} names differ from those of {whose}, first {odd[0]}; "
                f"export the features of {whose}"
            )
        try:
            self._lpips.net.load_state_dict({wanted[key]: value.float() for key, value in values.items()})
        except RuntimeError:
            raise CheckpointError(f"{source} has layers of another size than {whose}; export it again") from None


def _to_colour(image: Tensor) -> Tensor:
    return image.expand(-1, 3, -1, -1) if image.shape[1] == 1 else image


def _read_backbone(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with np.load(path, allow_pickle=False) as arrays:
            return {key: torch.from_numpy(arrays[key]) for key in arrays.files}
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile, safetensors.SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: no LPIPS backbone can be read ({reason}); give an .npz or .safetensors"
        ) from None


def _heads_without_backbone(network: str) -> Any:
    try:
        import lpips  # an extra: the rest of the package works without it
    except ImportError:
        raise ConfigError("LPIPS needs the lpips package; install qdm-med[metrics]") from None
    # The random backbone is replaced at once; the caller's random numbers must not notice that it was drawn.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net=network, version="0.1", pnet_rand=True, verbose=False)
