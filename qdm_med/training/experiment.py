"""Experiments: one YAML file describes a training run whole; an unknown key is an error."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from qdm_med.diffusion.chain import ChainConfig
from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, IntensityMap
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING, AutoencoderConfig
from qdm_med.models.compared.image_network import ImageNetworkConfig
from qdm_med.models.compared.unet import LatentUnetConfig
from qdm_med.models.network import LatentNetworkConfig
from qdm_med.models.qdm.config import DenoiserConfig, with_preset
from qdm_med.models.qdm.names import QuadtreeKind
from qdm_med.serialise import from_mapping, to_mapping
from qdm_med.training.image import ImageTrainingConfig
from qdm_med.training.loop import LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.vae import VaeTrainingConfig


@dataclass(frozen=True)
class ExperimentConfig:
    """Description of a training run.

    Attributes:
        name: Name of the model, written into its checkpoint and into what it makes.
        loop: Length and speed of the training.
        autoencoder: Shape of the autoencoder; used by ``train-vae``.
        vae: Losses and crops of the autoencoder's training.
        denoiser: Shape of the denoiser; used by ``train``, with the autoencoder of a checkpoint.
        unet: Shape of the U-Net; in its place with ``train --model resshift`` and ``ldm``.
        training: Losses and pairs of the denoiser's training.
        image_network: Shape of an image network; used by ``train --model rrdb`` or ``swinir``, for one scale.
        image_training: Losses and pairs of the image network's training.
        schedule: Diffusion schedule; with ``kind: ddpm`` that of latent diffusion.
        intensity: HU mapping; ``train`` takes that of its autoencoder.
        scales: Magnifications.
        threshold: Default quadtree threshold of the checkpoint.
        quadtree: Default quadtree of the checkpoint.
        steps: Default sampling steps of the checkpoint, one number a scale.
    """

    name: str
    loop: LoopConfig = LoopConfig()
    autoencoder: AutoencoderConfig = AutoencoderConfig()
    vae: VaeTrainingConfig = VaeTrainingConfig()
    denoiser: DenoiserConfig | None = None
    unet: LatentUnetConfig | None = None
    training: DenoiserTrainingConfig = DenoiserTrainingConfig()
    image_network: ImageNetworkConfig | None = None
    image_training: ImageTrainingConfig = ImageTrainingConfig()
    schedule: ChainConfig = ScheduleConfig()
    intensity: IntensityMap = CompandedRange()
    scales: tuple[int, ...] = (4, 8)
    threshold: float = 0.15
    quadtree: QuadtreeKind = "paper"
    steps: tuple[int, ...] = (4, 8)

    def __post_init__(self) -> None:
        """Refuse scales that no latent has pixels for."""
        if not self.scales or any(scale < 1 or scale % DOWNSAMPLING for scale in self.scales):
            raise ConfigError(
                f"scales {list(self.scales)} of experiment {self.name} must be multiples of {DOWNSAMPLING}, the pixels of a "
                "latent pixel; take [4], [8] or [4, 8]"
            )

    def network_for(self, model: str) -> LatentNetworkConfig:
        """The section that describes the network of a latent ``model``: ``denoiser`` of ``qdm``, else ``unet``.

        Raises:
            ConfigError: If the model is unknown, its section is missing, or the schedule is another model's.
        """
        if model not in ("qdm", "resshift", "ldm"):
            raise ConfigError(f"model {model!r} is not trained on latents; known: qdm, resshift, ldm")
        shape = self.denoiser if model == "qdm" else self.unet
        if shape is None:
            section = "denoiser" if model == "qdm" else "unet"
            raise ConfigError(
                f"experiment {self.name} has no {section}, which --model {model} trains; take a configuration that "
                f"describes one, such as configs/{model}_t.yaml"
            )
        if self.schedule.starts_from_source == (model == "ldm"):
            wanted = "kind: ddpm" if model == "ldm" else "no kind"
            raise ConfigError(f"--model {model} needs a schedule with {wanted} in experiment {self.name}")
        return shape

    def image_network_for(self, architecture: str) -> ImageNetworkConfig:
        """The section ``image_network``, which must describe this architecture, for the one scale of the experiment.

        Raises:
            ConfigError: If it describes another, is missing, or the experiment has several scales.
        """
        shape = self.image_network
        if shape is None or shape.architecture != architecture:
            described = f"describes {shape.architecture}" if shape else "has no section image_network"
            raise ConfigError(
                f"experiment {self.name} {described}, not {architecture}; take a configuration of {architecture}, such as "
                f"configs/{architecture}_t_x4.yaml"
            )
        if len(self.scales) != 1:
            raise ConfigError(
                f"an image network has one scale, experiment {self.name} has {len(self.scales)}; set scales to one, "
                "such as [4], and train another network for each other"
            )
        return shape


def load_config(path: Path) -> ExperimentConfig:
    """Read an experiment.

    Raises:
        ConfigError: If the file is missing, is no YAML mapping, or names something unknown.
    """
    return from_mapping(ExperimentConfig, read_yaml(path), where=str(path))


def read_yaml(path: Path) -> Any:
    """Read any YAML file; a preset of the denoiser is spelt out.

    Raises:
        ConfigError: If the file is missing or no YAML, or names a preset that is not there.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; give the path of a YAML file, such as one of configs/") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    if isinstance(values, dict) and isinstance(section := values.get("denoiser"), dict):
        values["denoiser"] = with_preset(section, where=str(path))
    return values


def save_config(config: object, path: Path) -> None:
    """Write an experiment with every default spelt out."""
    path.write_text(yaml.safe_dump(to_mapping(config), sort_keys=False), encoding="utf-8")
