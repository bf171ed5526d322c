"""Published image super-resolution networks (BSRGAN, SwinIR and others) from a user's weights, read by ``spandrel``.

Spandrel (MIT) recognises the architecture from the weights and reads pickles with an unpickler that knows tensors only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.methods.method import Restored
from qdm_med.intensity import IntensityMap
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class ImageModel:
    """A network for images in [0, 1]; CT is shown to it in the model's range, grey repeated, and channels are averaged.

    Attributes:
        name: File name and architecture.
        network: Spandrel's descriptor of the network.
        intensity: HU to [-1, 1].
        device: Where it runs.
    """

    name: str
    network: Any
    intensity: IntensityMap
    device: torch.device

    @torch.no_grad()
    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice."""
        unit = (torch.from_numpy(self.intensity.to_unit(low_hu)) + 1.0) / 2.0
        image = unit.expand(1, self.network.input_channels, -1, -1).to(self.device)
        answer = self.network(image).mean(dim=1)[0].clamp(0.0, 1.0).cpu().numpy()
        return Restored(self.intensity.to_hu(answer * 2.0 - 1.0))


def load_image_model(path: Path, scale: int, intensity: IntensityMap, device: torch.device) -> ImageModel:
    """Read a network's weights.

    Args:
        path: ``.pth`` or ``.safetensors`` as its authors published it.
        scale: Magnification that is wanted.
        intensity: Range in which it is shown CT.
        device: Where it runs.

    Raises:
        ConfigError: If spandrel is not installed.
        CheckpointError: If the file is missing or unknown, or the network magnifies by another factor.
    """
    try:
        from spandrel import ImageModelDescriptor, ModelLoader  # an extra: the rest works without it
    except ImportError:
        raise ConfigError("image networks need the spandrel package; install qdm-med[compare]") from None
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights; give a .pth or .safetensors file")
    try:
        network = ModelLoader(device=device).load_from_file(path)
    except Exception as error:  # spandrel lets out whatever unpickling and its architectures raise
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: spandrel cannot read these weights ({reason}); give published ones") from None
    if not isinstance(network, ImageModelDescriptor) or network.scale != scale:
        raise CheckpointError(
            f"{path}: its network magnifies by {network.scale}, not by {scale}; give weights for x{scale}"
        )
    network.eval()
    return ImageModel(f"{network.architecture.name} ({path.name})", network, intensity, device)
