"""Training runs as the command line starts them: an experiment, a slice store and a run folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch

from qdm_med import distributed
from qdm_med.checkpoints.image_model import ImageModelCard
from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.device import pick_device
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.models.compared.image_network import Architecture
from qdm_med.serialise import from_mapping
from qdm_med.training.denoiser import DenoiserTask
from qdm_med.training.experiment import ExperimentConfig, read_yaml, save_config
from qdm_med.training.image import ImageTask
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig, Told, Trainer
from qdm_med.training.pairs import data_record
from qdm_med.training.pixels import measured_autoencoder
from qdm_med.training.state import STATE_FILE
from qdm_med.training.task import Distance, Objective, Run, Store, Task
from qdm_med.training.vae import VaeTask

CONFIG_FILE = "config.yaml"

Report = Callable[[str], None]


class Experiment(Protocol):
    """A frozen dataclass that describes a run."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def loop(self) -> LoopConfig:
        """Length and speed of the training."""
        ...


@dataclass(frozen=True)
class Start:
    """Settings with which a run is started, whatever it trains.

    Attributes:
        data: Slice store.
        out: Run folder, new or, with ``resume``, of the same experiment.
        device: Name of the device.
        resume: Whether to go on with the run that ``out`` holds.
        report: Receives one line at the start and one at the end, from rank 0 alone.
        lpips_backbone: The file that :class:`qdm_med.evaluation.measures.perceptual.Lpips` reads, for a perceptual term.
        told: Hears of every step, from rank 0 alone.
        workers: Processes that draw the batches of each training process ahead of their step; 0: it draws them itself.
    """

    data: Path
    out: Path
    device: str = "auto"
    resume: bool = False
    report: Report = print
    lpips_backbone: Path | None = None
    told: Told = lambda step, steps, losses: None
    workers: int = 0

    def run(self, loop: LoopConfig) -> Run[SliceStore]:
        """Open the slices and meet the other processes, if there are any.

        Raises:
            QdmMedError: If data, device or backbone cannot be used.
        """
        return self.run_on(SliceStore.open(self.data), loop)

    def run_on(self, store: Store, loop: LoopConfig) -> Run[Store]:
        """Meet the other processes, with data that are open.

        Raises:
            QdmMedError: If device or backbone cannot be used.
        """
        device = join(self.device)
        return Run(store, loop.batch, loop.seed, device, read_perceptual(self.lpips_backbone, device))


def run_vae(config: ExperimentConfig, start: Start) -> None:
    """Train an autoencoder, in one process or as one of the many that torchrun starts.

    Of one that has no weights, of layout ``pixels``, only the latents' unit is measured, and there is nothing to resume.

    Raises:
        QdmMedError: If the data, the folder or the device cannot be used.
    """
    card = ModelCard(config.name, config.autoencoder, intensity=config.intensity)
    if config.autoencoder.layout == "pixels":
        distributed.on_main(lambda: _measure_pixels(config, card, start))
        return
    run_task(config, VaeTask(card, config.vae, start.run(config.loop)), start)


def _measure_pixels(config: ExperimentConfig, card: ModelCard, start: Start) -> None:
    store = SliceStore.open(start.data)
    autoencoder = measured_autoencoder(store, config.autoencoder, config.intensity, config.scales)
    start.out.mkdir(parents=True, exist_ok=True)
    path = start.out / CHECKPOINT_FILE
    save_checkpoint(path, replace(card, training=data_record(store)), autoencoder)
    start.report(f"measured {config.name}: a latent is a pixel times {float(autoencoder.latent_scale[0]):.4g}; {path}")


def run_denoiser(
    config: ExperimentConfig, start: Start, vae: Path, *, initial: Path | None = None, model: str = "qdm"
) -> None:
    """Train a denoiser in the latent space of the autoencoder in the checkpoint ``vae``; else as :func:`run_vae`.

    ``initial`` is a checkpoint whose denoiser the run starts from instead of from random weights; ``model`` is ``"qdm"``, or
    ``"resshift"`` (residual shifting without a mask, on a U-Net) or ``"ldm"`` (latent diffusion, on the same).
    """
    run_task(config, _denoiser_task(config, start, vae, initial=initial, model=model), start)


def _denoiser_task(
    config: ExperimentConfig, start: Start, vae: Path, *, initial: Path | None = None, model: str = "qdm"
) -> DenoiserTask:
    shape = config.network_for(model)
    run = start.run(config.loop)
    base = load_checkpoint(vae)
    card = ModelCard(
        config.name,
        base.card.autoencoder,
        shape,
        config.schedule,
        base.card.intensity,
        config.scales,
        threshold=config.threshold,
        quadtree=config.quadtree,
        steps=config.steps,
    )
    return DenoiserTask(card, config.training, run, base, load_checkpoint(initial) if initial else None)


def run_image_network(config: ExperimentConfig, start: Start, architecture: Architecture) -> None:
    """Train an image network of the ``architecture`` that the experiment must describe; else as :func:`run_vae`."""
    run_task(config, _image_task(config, start, architecture), start)


def _image_task(config: ExperimentConfig, start: Start, architecture: str) -> ImageTask:
    shape = config.image_network_for(architecture)
    card = ImageModelCard(config.name, shape, config.scales[0], config.intensity)
    return ImageTask(card, config.image_training, start.run(config.loop))


def task_of(config: ExperimentConfig, start: Start, model: str, vae: Path) -> Task[Any]:
    """Build the task of ``train --model``; the autoencoder in ``vae`` is that of latent models."""
    if model in ("rrdb", "swinir"):
        return _image_task(config, start, model)
    return _denoiser_task(config, start, vae, model=model)


def join(device: str) -> torch.device:
    """Meet the other processes, if there are any, and return the device of this one."""
    target = distributed.own_device(pick_device(device))
    distributed.join(target)
    return target


def read_perceptual(backbone: Path | None, device: torch.device) -> Distance | None:
    """Load LPIPS on a backbone whose path is given; else none."""
    return Lpips(backbone).to(device) if backbone else None


def run_task(config: Experiment, task: Task[Objective], start: Start) -> None:
    """Train an experiment in its folder, which is new or, with ``resume``, holds the same experiment."""
    out, resume = start.out, start.resume
    tell = start.report if distributed.is_main() else _say_nothing
    trainer = Trainer(task, config.loop, out, workers=start.workers)
    if distributed.is_main():
        trainer.told = start.told
    distributed.on_main(lambda: _claim(config, out, resume=resume))
    resumed = resume and trainer.resume()
    tell(f"{'resuming' if resumed else 'training'} {config.name}: step {trainer.step} of {config.loop.steps}, {out}")
    trainer.told(trainer.step, trainer.expected_steps(), "")
    figures = trainer.run()
    told = ", ".join(f"{name} {value:.4g}" for name, value in figures.items())
    spent = f"{trainer.seconds / 60:.1f} min, {trainer.cpu_seconds / 60:.1f} CPU min"
    tell(f"trained {config.name}: {trainer.step} steps in {spent}; {told or 'nothing to do'}; {out / CHECKPOINT_FILE}")


def _claim(config: Experiment, out: Path, *, resume: bool) -> None:
    """Make the run folder, and refuse one that holds a run which must not be touched."""
    if (out / STATE_FILE).exists() and not resume:
        raise ConfigError(f"{out} already holds a run; add --resume to go on with it or choose another --out")
    if resume and (out / CONFIG_FILE).exists() and _read_again(config, out / CONFIG_FILE) != config:
        raise ConfigError(f"{out / CONFIG_FILE} differs from the given configuration; resume with the same one")
    make_folder(out)
    save_config(config, out / CONFIG_FILE)


def make_folder(out: Path) -> None:
    """Make the folder of a run, or of several.

    Raises:
        ConfigError: If it cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out} cannot be made ({error.strerror}); give another --out") from None


def _read_again(config: Experiment, path: Path) -> object:
    return from_mapping(type(config), read_yaml(path), where=str(path))


def _say_nothing(line: str) -> None:
    """Report nothing: rank 0 reports for all."""
