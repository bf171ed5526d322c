"""Experiments on photographs: YAML files with ``kind: natural``, and the runs that they describe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from qdm_med.diffusion.schedule import ScheduleConfig
from qdm_med.errors import ConfigError
from qdm_med.models.autoencoder.vq import VqConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.natural.checkpoint import NaturalCard, load_natural
from qdm_med.natural.denoiser_training import NaturalTask, NaturalTrainingConfig
from qdm_med.natural.photos import PhotoStore
from qdm_med.natural.vqgan_training import VqganTask, VqganTrainingConfig
from qdm_med.serialise import from_mapping
from qdm_med.training.experiment import ExperimentConfig, read_yaml
from qdm_med.training.loop import LoopConfig
from qdm_med.training.runs import Start, run_task


@dataclass(frozen=True)
class NaturalExperiment:
    """A training run on photographs.

    Attributes:
        name: Name of the model, written into its checkpoint and into what it makes.
        loop: Length and speed of the training.
        autoencoder: Shape of the VQGAN; used by ``train-vae``.
        vqgan: Losses and crops of the VQGAN's training.
        denoiser: Shape of the denoiser; used by ``train``, with the VQGAN of a checkpoint.
        training: Losses and pairs of the denoiser's training.
        schedule: Diffusion schedule.
        scale: Magnification.
        threshold: Default quadtree threshold of the checkpoint.
        steps: Default sampling steps of the checkpoint.
    """

    kind: ClassVar[str] = "natural"

    name: str
    loop: LoopConfig = LoopConfig()
    autoencoder: VqConfig = VqConfig()
    vqgan: VqganTrainingConfig = VqganTrainingConfig()
    denoiser: DenoiserConfig | None = None
    training: NaturalTrainingConfig = NaturalTrainingConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    scale: int = 4
    threshold: float = 0.0
    steps: int = 15


def load_experiment(path: Path) -> ExperimentConfig | NaturalExperiment:
    """Read an experiment, of CT or of photographs.

    Raises:
        ConfigError: If the file is missing, is no YAML mapping, or names something unknown.
    """
    values = read_yaml(path)
    if isinstance(values, dict) and values.get("kind") == NaturalExperiment.kind:
        return from_mapping(NaturalExperiment, values, where=str(path))
    return from_mapping(ExperimentConfig, values, where=str(path))


def run_vqgan(experiment: NaturalExperiment, start: Start) -> None:
    """Train a VQGAN; ``start.data`` is a folder as for :class:`qdm_med.natural.photos.PhotoStore`."""
    if experiment.vqgan.adversarial_adaptive and experiment.loop.accumulate > 1:
        raise ConfigError(
            f"vqgan.adversarial_adaptive needs the whole batch at once, but loop.accumulate is {experiment.loop.accumulate}; "
            "set it to 1 and start more processes, or lower loop.batch"
        )
    card = NaturalCard(experiment.name, experiment.autoencoder)
    task = VqganTask(card, experiment.vqgan, start.run_on(PhotoStore(start.data), experiment.loop))
    run_task(experiment, task, start)


def run_natural(experiment: NaturalExperiment, start: Start, vqgan: Path, *, initial: Path | None = None) -> None:
    """Train a denoiser in the latents of the checkpoint ``vqgan``, from the denoiser of ``initial`` if it is given."""
    if experiment.denoiser is None:
        raise ConfigError(f"experiment {experiment.name} has no denoiser; take one such as configs/natural_s_x4.yaml")
    base = load_natural(vqgan)
    card = NaturalCard(
        experiment.name,
        base.card.autoencoder,
        experiment.denoiser,
        schedule=experiment.schedule,
        scale=experiment.scale,
        threshold=experiment.threshold,
        steps=experiment.steps,
    )
    run = start.run_on(PhotoStore(start.data), experiment.loop)
    task = NaturalTask(card, experiment.training, run, base, load_natural(initial) if initial else None)
    run_task(experiment, task, start)
