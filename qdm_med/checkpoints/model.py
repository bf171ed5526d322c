"""Checkpoints: one safetensors file that describes itself.

The card in its metadata holds configurations, scales, HU mapping, training data and version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import nn

from qdm_med._version import __version__
from qdm_med.checkpoints.file import load_networks, parse_card, read_metadata, read_tensors, require_whole, save_weights
from qdm_med.diffusion.chain import ChainConfig
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig, KlVae
from qdm_med.models.network import LatentNetwork, LatentNetworkConfig, build_network
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.uncertainty import SpreadCalibration

FORMAT = "qdm-med/1"

Purpose = Literal["benchmark", "clinical"]

_UNRECORDED_CONSISTENCY: Mapping[Purpose, str] = MappingProxyType({"benchmark": "local", "clinical": "spread"})
"""Agreement of calibrations that do not name theirs: the default when they were measured."""


@dataclass(frozen=True)
class ModelCard:
    """Description of a checkpoint: what it is and how to run it.

    Attributes:
        name: Short name, written into derived series.
        autoencoder: Shape of the autoencoder.
        denoiser: Shape of the denoiser; ``None`` in a checkpoint of an autoencoder alone.
        schedule: Schedule that the denoiser was trained with.
        intensity: HU mapping that both were trained with.
        scales: Magnifications that the denoiser was trained for.
        threshold: Default quadtree threshold s, of the default quadtree.
        quadtree: Default quadtree.
        steps: Default number of sampling steps for each scale, in the order of ``scales``.
        purpose: Kind of slices the model is for, ``"benchmark"`` (the paper's degradation) or ``"clinical"``; what its modes are
            and how it agrees with its source goes by it.
        training: Training data and figures, free of patient data.
        uncertainty: Calibrations of the samples' standard deviation, by scale, steps and samples; a scale may have none.
        version: Version of qdm-med that wrote the checkpoint.
    """

    name: str
    autoencoder: AutoencoderConfig
    denoiser: LatentNetworkConfig | None = None
    schedule: ChainConfig = ScheduleConfig()
    intensity: IntensityMap = CompandedRange()
    scales: tuple[int, ...] = (4, 8)
    threshold: float = 0.15
    quadtree: QuadtreeKind = "paper"
    steps: tuple[int, ...] = (4, 8)
    purpose: Purpose = "benchmark"
    training: Mapping[str, Any] = field(default_factory=dict)
    uncertainty: tuple[SpreadCalibration, ...] = ()
    version: str = __version__

    def __post_init__(self) -> None:
        """Check steps and calibrations against the scales, and that a network without a mask is asked for none."""
        if len(self.scales) != len(self.steps):
            raise ConfigError(f"steps {self.steps} must name one number for each of the scales {self.scales}")
        if self.denoiser is not None and not self.denoiser.has_mask and self.threshold:
            raise ConfigError(f"threshold of {self.name} must be 0, got {self.threshold}: its network has no mask")
        calibrated = [(one.scale, one.steps, one.samples) for one in self.uncertainty]
        if len(set(calibrated)) < len(calibrated):
            raise ConfigError(f"uncertainty calibrates {calibrated} (scale, steps, samples); name each at most once")

    def require_denoiser(self) -> LatentNetworkConfig:
        """Shape of the denoiser, which must be there.

        Raises:
            CheckpointError: If there is none.
        """
        if self.denoiser is None:
            raise _no_denoiser(self.name)
        return self.denoiser

    def calibrations_with(self, consistency: str) -> list[SpreadCalibration]:
        """Calibrations that were measured with this agreement with the source."""
        unrecorded = _UNRECORDED_CONSISTENCY[self.purpose]
        return [one for one in self.uncertainty if (one.consistency or unrecorded) == consistency]

    def steps_for(self, scale: int) -> int:
        """Default number of sampling steps at ``scale``.

        Raises:
            CheckpointError: If the model was not trained for that scale.
        """
        if scale not in self.scales:
            known = ", ".join(f"x{each}" for each in self.scales)
            raise CheckpointError(
                f"model {self.name} was trained for {known}, not for x{scale}; choose another --scale"
            )
        return self.steps[self.scales.index(scale)]


@dataclass(frozen=True)
class Checkpoint:
    """A card with the networks it describes, in evaluation mode.

    Attributes:
        card: Description of the networks.
        autoencoder: KL autoencoder.
        denoiser: Denoiser, if there is one.
        sha256: Hash of the weights.
    """

    card: ModelCard
    autoencoder: KlVae
    denoiser: LatentNetwork | None
    sha256: str

    def require_denoiser(self) -> LatentNetwork:
        """The denoiser, which must be there.

        Raises:
            CheckpointError: If there is none.
        """
        if self.denoiser is None:
            raise _no_denoiser(self.card.name)
        return self.denoiser

    def shares_autoencoder(self, other: Checkpoint) -> bool:
        """Whether both checkpoints have the same latents: the weights of their autoencoders are equal."""
        ours, theirs = (checkpoint.autoencoder.state_dict() for checkpoint in (self, other))
        return ours.keys() == theirs.keys() and all(torch.equal(ours[name].cpu(), theirs[name].cpu()) for name in ours)


def _no_denoiser(name: str) -> CheckpointError:
    return CheckpointError(f"model {name} is an autoencoder without a denoiser; train one with `qdm-med train`")


def save_checkpoint(
    path: Path,
    card: ModelCard,
    autoencoder: KlVae,
    denoiser: LatentNetwork | None = None,
    *,
    dtype: torch.dtype = torch.float32,
) -> str:
    """Write a checkpoint and return the hash of its weights.

    Args:
        path: File to write.
        card: Description of the networks.
        autoencoder: KL autoencoder.
        denoiser: Denoiser, or ``None`` for an autoencoder alone.
        dtype: Precision of the stored weights; they are always run as float32.
    """
    networks: dict[str, nn.Module] = {"autoencoder": autoencoder}
    if denoiser is not None:
        networks["denoiser"] = denoiser
    tensors = {
        f"{owner}.{name}": tensor.to(dtype)
        for owner, network in networks.items()
        for name, tensor in network.state_dict().items()
    }
    return save_weights(path, FORMAT, card, tensors)


def read_card(path: Path) -> tuple[ModelCard, str]:
    """Read a checkpoint's card and hash without its weights.

    Raises:
        CheckpointError: If it is not a checkpoint of this package.
    """
    metadata = read_metadata(path)
    return _card(path, metadata), metadata.get("sha256", "")


def _card(path: Path, metadata: Mapping[str, str]) -> ModelCard:
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: not a qdm-med checkpoint (format {metadata.get('format')!r}, wanted {FORMAT!r}); "
            "convert released weights with `qdm-med convert`"
        )
    return parse_card(path, ModelCard, metadata)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint and check its weights against their hash.

    Raises:
        CheckpointError: If the file is missing, damaged, foreign, or does not fit its card.
    """
    tensors, metadata = read_tensors(path)
    card = _card(path, metadata)
    sha256 = require_whole(path, tensors, metadata)
    autoencoder = KlVae(card.autoencoder)
    denoiser = None if card.denoiser is None else build_network(card.denoiser)
    load_networks(path, tensors, autoencoder=autoencoder, denoiser=denoiser)
    return Checkpoint(card, autoencoder, denoiser, sha256)


EMBEDDED: Mapping[Purpose, str] = MappingProxyType({"clinical": "qdm-c.safetensors", "benchmark": "qdm-t.safetensors"})
"""Files of the checkpoints that ship with the package."""


def default_checkpoint(purpose: Purpose = "clinical") -> Path:
    """Path of a checkpoint that ships with the package."""
    return Path(str(resources.files("qdm_med.weights") / EMBEDDED[purpose]))


def find_checkpoint(given: Path | None, purpose: Purpose = "clinical") -> Path:
    """Path of the checkpoint that a user names.

    Args:
        given: A file, or ``clinical`` or ``benchmark`` for the embedded model of that purpose; ``None``: that of ``purpose``.
        purpose: Kind of embedded checkpoint, where no name is given.
    """
    if given is None:
        return default_checkpoint(purpose)
    named = [name for name in EMBEDDED if str(given) == name and not given.exists()]
    return default_checkpoint(named[0]) if named else given
