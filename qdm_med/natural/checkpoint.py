"""Checkpoints of photographs: a format of their own, so that no CT is ever run through one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from qdm_med._version import __version__
from qdm_med.checkpoints.file import load_networks, parse_card, read_metadata, read_tensors, require_whole, save_weights
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import CheckpointError
from qdm_med.models.autoencoder.vq import VqAutoencoder, VqConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser

FORMAT = "qdm-med-natural/1"


@dataclass(frozen=True)
class NaturalCard:
    """Description of a checkpoint: what it is and how to run it.

    Attributes:
        name: Short name, written into what it makes.
        autoencoder: Shape of the VQGAN.
        denoiser: Shape of the denoiser; ``None`` in a checkpoint of a VQGAN alone.
        schedule: Schedule that the denoiser was trained with.
        scale: Magnification that the denoiser was trained for.
        threshold: Default quadtree threshold s; 0 refines everything, as the paper does on photographs.
        steps: Default number of sampling steps.
        training: Training data and figures.
        version: Version of qdm-med that wrote the checkpoint.
    """

    name: str
    autoencoder: VqConfig
    denoiser: DenoiserConfig | None = None
    schedule: ScheduleConfig = ScheduleConfig()
    scale: int = 4
    threshold: float = 0.0
    steps: int = 15
    training: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__


@dataclass(frozen=True)
class NaturalCheckpoint:
    """A card with the networks it describes, in evaluation mode.

    Attributes:
        card: Description of the networks.
        autoencoder: VQGAN.
        denoiser: Denoiser, if there is one.
        sha256: Hash of the weights.
    """

    card: NaturalCard
    autoencoder: VqAutoencoder
    denoiser: TwoStreamDenoiser | None
    sha256: str


def save_natural(
    path: Path, card: NaturalCard, autoencoder: VqAutoencoder, denoiser: TwoStreamDenoiser | None = None
) -> str:
    """Write a checkpoint and return the hash of its weights."""
    networks: dict[str, nn.Module] = {"autoencoder": autoencoder}
    if denoiser is not None:
        networks["denoiser"] = denoiser
    tensors = {
        f"{owner}.{name}": tensor
        for owner, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    return save_weights(path, FORMAT, card, tensors)


def is_natural(path: Path) -> bool:
    """Whether a file is a checkpoint for photographs; one that cannot be read is not."""
    try:
        return path.suffix == ".safetensors" and read_metadata(path).get("format") == FORMAT
    except CheckpointError:
        return False


def load_natural(path: Path) -> NaturalCheckpoint:
    """Read a checkpoint and check its weights against their hash.

    Raises:
        CheckpointError: If the file is missing, damaged, of another track, or does not fit its card.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a natural-image checkpoint (format {metadata.get('format')!r}, wanted {FORMAT!r}); train one "
            "with a configuration of kind natural, or convert the released one"
        )
    card = parse_card(path, NaturalCard, metadata)
    sha256 = require_whole(path, tensors, metadata)
    autoencoder = VqAutoencoder(card.autoencoder)
    denoiser = None if card.denoiser is None else TwoStreamDenoiser(card.denoiser)
    load_networks(path, tensors, autoencoder=autoencoder, denoiser=denoiser)
    return NaturalCheckpoint(card, autoencoder, denoiser, sha256)
