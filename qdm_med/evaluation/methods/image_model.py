"""Image super-resolution networks (BSRGAN, SwinIR and others), published or trained here, read by ``spandrel``.

Spandrel (MIT) recognises the architecture from the weights and reads pickles with an unpickler that knows tensors only.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qdm_med.checkpoints.image_model import read_image_card
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.measures.cost import count_macs
from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import IntensityMap
from qdm_med.models.compared.image_network import SPANDREL_IS_MISSING, enlarge
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class ImageModel:
    """A network for images in [0, 1]; CT is mapped to that range, grey is repeated, and channels are averaged.

    Attributes:
        name: Name in tables.
        network: Spandrel's descriptor of the network.
        intensity: HU to [-1, 1].
        device: Device of the network.
        over_bicubic: Whether its answer is added to the bicubically enlarged image.
        counted: Whether multiply-accumulates are counted, which takes another run.
    """

    name: str
    network: Any
    intensity: IntensityMap
    device: torch.device
    over_bicubic: bool = False
    counted: bool = False

    @torch.no_grad()
    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice."""
        unit = (torch.from_numpy(self.intensity.to_unit(low_hu)) + 1.0) / 2.0
        image = unit.expand(1, self.network.input_channels, -1, -1).to(self.device)
        # The descriptor clamps every answer to [0, 1]; one that is added to something has a sign.
        answering = self.network.model if self.over_bicubic else self.network

        def run() -> Tensor:
            return enlarge(answering, image, scale, over_bicubic=self.over_bicubic)

        start = time.perf_counter()
        answer = run().mean(dim=1)[0].clamp(0.0, 1.0).cpu().numpy()
        hu = self.intensity.to_hu(answer * 2.0 - 1.0)
        seconds = time.perf_counter() - start
        cost = {"macs": float(count_macs(run)[1])} if self.counted else {}  # in a run of its own: counting takes time
        return Restored(hu, cost=cost, seconds=seconds)


def load_image_model(
    path: Path, scale: int, intensity: IntensityMap, device: torch.device, *, counted: bool = False
) -> ImageModel:
    """Read a network's weights, and its card if it was trained here.

    Args:
        path: ``.pth`` or ``.safetensors`` as its authors published it, or as ``qdm-med train`` wrote it.
        scale: Magnification that is wanted.
        intensity: Range in which it is shown CT, unless its card names that of its training.
        device: Device of the network.
        counted: Whether multiply-accumulates are counted.

    Raises:
        ConfigError: If spandrel is not installed.
        CheckpointError: If the file is missing, damaged or unknown, or the network magnifies by another factor.
    """
    card = read_image_card(path)
    network = _recognised(path, device)
    if network.scale != scale:
        raise CheckpointError(
            f"{path}: its network magnifies by {network.scale}, not by {scale}; give weights for x{scale}"
        )
    if card is None:
        return ImageModel(_published_name(network, path), network, intensity, device, counted=counted)
    over_bicubic = card.network.over_bicubic
    return ImageModel(card.name, network, card.intensity, device, over_bicubic=over_bicubic, counted=counted)


def describe_image_model(path: Path) -> tuple[str, int, int]:
    """Name in tables, magnification and parameters of a network, as :func:`load_image_model` reads it.

    Raises:
        ConfigError: If spandrel is not installed.
        CheckpointError: If the file is missing, damaged or unknown.
    """
    card = read_image_card(path)
    network = _recognised(path, torch.device("cpu"))
    parameters = sum(one.numel() for one in network.model.parameters())
    return card.name if card else _published_name(network, path), int(network.scale), parameters


def _published_name(network: Any, path: Path) -> str:
    return f"{network.architecture.name} ({path.name})"


def _recognised(path: Path, device: torch.device) -> Any:
    """Find spandrel's descriptor of a network for the scale."""
    try:
        from spandrel import ImageModelDescriptor, ModelLoader  # an extra: the rest works without it
    except ImportError:
        raise ConfigError(SPANDREL_IS_MISSING) from None
    try:
        network = ModelLoader(device=device).load_from_file(path)
    except Exception as error:  # spandrel lets out whatever unpickling and its architectures raise
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: spandrel cannot read these weights ({reason}); give published ones") from None
    if not isinstance(network, ImageModelDescriptor):
        raise CheckpointError(f"{path}: its network is none for single images; give one of super-resolution")
    network.eval()
    return network
