"""LPIPS (arXiv 1801.03924) with a SqueezeNet backbone read from a file: never random, never downloaded."""

from __future__ import annotations

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


class LpipsSqueeze(nn.Module):
    """LPIPS v0.1 on SqueezeNet 1.1, with the linear heads that the ``lpips`` package ships.

    Not comparable with published LPIPS, which is AlexNet's: the column is called ``lpips_squeeze``.

    Args:
        backbone: ``.npz`` or ``.safetensors`` with the convolutions of torchvision's ``squeezenet1_1`` trained on
            ImageNet, keyed ``features.<layer>...``.

    Raises:
        CheckpointError: If the file is missing, damaged, or holds other layers.
        ConfigError: If the ``lpips`` package is not installed.
    """

    def __init__(self, backbone: Path | str) -> None:
        super().__init__()
        values = _read_backbone(Path(backbone))
        self._lpips: Any = _heads_without_backbone()
        self._load(values, Path(backbone))
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

    def _load(self, values: dict[str, Tensor], source: Path) -> None:
        # lpips cuts the backbone into slices but keeps the number of each layer: slice3.6.squeeze.weight.
        wanted = {re.sub(r"^slice\d+", "features", key): key for key in self._lpips.net.state_dict()}
        if wanted.keys() != values.keys():
            odd = sorted(wanted.keys() ^ values.keys())
            raise CheckpointError(
                f"{source} is no SqueezeNet 1.1 backbone: {len(odd)} names differ, first {odd[0]}; "
                "export the features of torchvision's squeezenet1_1"
            )
        try:
            self._lpips.net.load_state_dict({wanted[key]: value.float() for key, value in values.items()})
        except RuntimeError:
            raise CheckpointError(f"{source} has layers of another size than SqueezeNet 1.1; export it again") from None


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


def _heads_without_backbone() -> Any:
    try:
        import lpips  # an extra: the rest of the package works without it
    except ImportError:
        raise ConfigError("LPIPS needs the lpips package; install qdm-med[metrics]") from None
    # The random backbone is replaced at once; the caller's random numbers must not notice that it was drawn.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return lpips.LPIPS(net="squeeze", version="0.1", pnet_rand=True, verbose=False)
