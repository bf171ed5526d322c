"""Files of trained image networks: weights that ``spandrel`` recognises, and a card that describes them.

Any program that reads published networks reads these files too; only ours knows the card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qdm_med._version import __version__
from qdm_med.checkpoints.file import parse_card, read_tensors, require_whole, save_weights
from qdm_med.errors import CheckpointError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.models.compared.image_network import ImageNetwork, ImageNetworkConfig

FORMAT = "qdm-med-image/1"


@dataclass(frozen=True)
class ImageModelCard:
    """Description of an image network: what it is and how to run it.

    Attributes:
        name: Short name, that of its rows in tables.
        network: Shape of the network.
        scale: Magnification, the only one it has.
        intensity: HU mapping that it was trained with.
        training: Training data and figures, free of patient data.
        version: Version of qdm-med that wrote the file.
    """

    name: str
    network: ImageNetworkConfig
    scale: int
    intensity: IntensityMap = CompandedRange()
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__


def save_image_network(path: Path, card: ImageModelCard, network: ImageNetwork) -> str:
    """Write a network under the names that its architecture has in spandrel; returns the hash of its weights."""
    return save_weights(path, FORMAT, card, network.network.state_dict())


def read_image_card(path: Path) -> ImageModelCard | None:
    """Read the card of a file of image network weights and check the weights against their hash.

    Args:
        path: Weights of any origin.

    Returns:
        The card; ``None`` if the file is not of this package.

    Raises:
        CheckpointError: If it is missing, of this package and damaged, or a safetensors file and not whole.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weights; give a .pth or .safetensors file")
    if path.suffix != ".safetensors":
        return None
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        return None
    require_whole(path, tensors, metadata)
    return parse_card(path, ImageModelCard, metadata)
