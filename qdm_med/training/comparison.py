"""Several methods trained from one store at equal processor time, and one table of them all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from qdm_med.checkpoints.image_model import read_image_card
from qdm_med.checkpoints.model import load_checkpoint, read_card
from qdm_med.device import pick_device
from qdm_med.errors import ConfigError
from qdm_med.evaluation.benchmarks import BENCHMARK_SCALES, BenchmarkOptions
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.evaluation.tables.comparison import comparison_table, leads
from qdm_med.files import write_text
from qdm_med.serialise import from_mapping
from qdm_med.training.experiment import ExperimentConfig, load_config, read_yaml
from qdm_med.training.loop import CHECKPOINT_FILE, cpu_seconds_per_step
from qdm_med.training.runs import CONFIG_FILE, Start, run_task, task_of

TABLE_FILE = "table.md"
IMAGE_MODELS = ("rrdb", "swinir")


@dataclass(frozen=True)
class Member:
    """One network of a comparison.

    Attributes:
        model: As ``qdm-med train --model``.
        config: Its experiment, relative to the file of the comparison.
    """

    model: Literal["qdm", "resshift", "ldm", "rrdb", "swinir"]
    config: str


@dataclass(frozen=True)
class ComparisonConfig:
    """Which networks are compared; the first is the one under test, a QDM.

    Attributes:
        members: The networks.
        minutes: Processor minutes of each network's training. 0: as many steps as its experiment says.
    """

    members: tuple[Member, ...]
    minutes: float = 60.0

    def __post_init__(self) -> None:
        """Reject a comparison of nothing, or for less than no time."""
        if not self.members or self.members[0].model != "qdm":
            raise ConfigError("members must begin with the network under test, a member with model: qdm")
        if self.minutes < 0:
            raise ConfigError(f"minutes must not be negative, got {self.minutes}")


@dataclass(frozen=True)
class Trained:
    """A trained network.

    Attributes:
        model: As in :class:`Member`.
        name: Of its experiment.
        scales: Magnifications that it serves.
        checkpoint: Its file.
        cpu_minutes: Processor minutes of its training, as its card tells.
    """

    model: str
    name: str
    scales: tuple[int, ...]
    checkpoint: Path
    cpu_minutes: float


def train_members(path: Path, start: Start, vae: Path, minutes: float | None = None) -> list[Trained]:
    """Train what a comparison names, each network in a folder of its own; finished ones are left as they are.

    Args:
        path: File of the comparison.
        start: Data, device, and the folder of all of it; killed runs go on.
        vae: Checkpoint with the autoencoder of all latent models.
        minutes: Takes the place of the comparison's.

    Raises:
        QdmMedError: If a file, the data or a folder is invalid.
    """
    comparison = from_mapping(ComparisonConfig, read_yaml(path), where=str(path))
    if minutes is not None:
        comparison = replace(comparison, minutes=minutes)
    experiments = [load_config(path.parent / member.config) for member in comparison.members]
    names = [experiment.name for experiment in experiments]
    if len(set(names)) < len(names):
        raise ConfigError(f"{path}: two members are called alike, among {', '.join(names)}; give each a name")
    pairs = zip(comparison.members, experiments, strict=True)
    return [_train(member, experiment, comparison.minutes, start, vae) for member, experiment in pairs]


def _train(member: Member, experiment: ExperimentConfig, minutes: float, start: Start, vae: Path) -> Trained:
    own = replace(start, out=start.out / experiment.name, resume=True)
    config = _settled(member, experiment, minutes, own, vae)
    run_task(config, task_of(config, own, member.model, vae), own)
    checkpoint = own.out / CHECKPOINT_FILE
    card = read_image_card(checkpoint) if member.model in IMAGE_MODELS else read_card(checkpoint)[0]
    spent = float(card.training["cpu_minutes"]) if card else 0.0
    return Trained(member.model, experiment.name, experiment.scales, checkpoint, spent)


def _settled(member: Member, experiment: ExperimentConfig, minutes: float, start: Start, vae: Path) -> ExperimentConfig:
    """The experiment with as many steps as the minutes allow, so that its learning rate falls to its end in that time.

    A run that was begun keeps its steps. The minutes end a run that turns out slower than its first steps were.
    """
    if not minutes:
        return experiment
    loop = replace(experiment.loop, cpu_minutes=minutes)
    begun = start.out / CONFIG_FILE
    if begun.exists():
        return replace(experiment, loop=replace(loop, steps=load_config(begun).loop.steps))
    seconds = cpu_seconds_per_step(task_of(experiment, start, member.model, vae), experiment.loop)
    steps = max(1, round(60 * minutes / seconds))
    start.report(f"{experiment.name}: {seconds:.2f} CPU s a step, so {steps} steps in {minutes:g} CPU min")
    return replace(experiment, loop=replace(loop, steps=steps))


def compare(trained: Sequence[Trained], start: Start, options: BenchmarkOptions) -> str:
    """Score trained networks on the benchmark of every scale that the first one serves, and write one table.

    Args:
        trained: The networks; the first is under test.
        start: Data, device, and the folder; scores of a killed run are kept.
        options: What all benchmarks have in common; name, models and counting are set here. Of ``results``, every folder holds
            one of each benchmark's name.

    Returns:
        The table and where the network under test leads, as Markdown; also written into the folder.

    Raises:
        ConfigError: If a folder of results holds none of a benchmark.
    """
    for _, folder in options.results:
        if not any((folder / benchmark).is_dir() for benchmark in BENCHMARK_SCALES):
            raise ConfigError(
                f"{folder}: holds none of {', '.join(BENCHMARK_SCALES)}; give each benchmark's results a folder"
            )
    rows: list[SliceScore] = []
    for benchmark, scale in BENCHMARK_SCALES.items():
        if scale in trained[0].scales:
            rows += _scores(benchmark, scale, trained, start, options)
    table = comparison_table(rows, {one.name: one.cpu_minutes for one in trained})
    text = f"{table.markdown()}\n\n{leads(rows, trained[0].name)}\n"
    write_text(start.out / TABLE_FILE, text)
    return text


def _scores(
    benchmark: str, scale: int, trained: Sequence[Trained], start: Start, options: BenchmarkOptions
) -> Sequence[SliceScore]:
    first, *others = [one for one in trained if scale in one.scales]
    device = pick_device(start.device)
    start.report(f"scoring {benchmark}: {first.name}, {', '.join(one.name for one in others)}")
    wanted = replace(
        options,
        benchmark=benchmark,
        results=tuple((name, own) for name, folder in options.results if (own := folder / benchmark).is_dir()),
        latent_models=tuple(one.checkpoint for one in others if one.model not in IMAGE_MODELS),
        image_models=tuple(one.checkpoint for one in others if one.model in IMAGE_MODELS),
        count_macs=True,
    )
    return evaluate_checkpoint(
        start.data,
        load_checkpoint(first.checkpoint),
        wanted,
        device=device,
        perceptual=Lpips(start.lpips_backbone) if start.lpips_backbone else None,
        outputs=Outputs(start.out / benchmark),
    ).rows
