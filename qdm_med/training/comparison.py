"""Comparison of methods trained from one store at equal processor time, in one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from torch import nn

from qdm_med.checkpoints.image_model import read_image_card
from qdm_med.checkpoints.model import ModelCard, load_checkpoint, read_card
from qdm_med.device import pick_device
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.benchmarks import BENCHMARK_SCALES, BenchmarkOptions, Scoring
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.measures.protocols import protocols
from qdm_med.evaluation.methods.image_model import describe_image_model
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.evaluation.summary import Evaluation
from qdm_med.evaluation.tables.comparison import comparison_table, leads
from qdm_med.evaluation.tables.reasons import TrainingFacts, reasons, share_still_falling
from qdm_med.files import write_text
from qdm_med.models.compared.image_network import ImageNetwork
from qdm_med.models.network import build_network
from qdm_med.serialise import from_mapping
from qdm_med.training.experiment import ExperimentConfig, load_config, read_yaml
from qdm_med.training.log import RunLog
from qdm_med.training.loop import CHECKPOINT_FILE
from qdm_med.training.runs import CONFIG_FILE, Start, make_folder, run_task, task_of
from qdm_med.training.trial import cpu_seconds_per_step

TABLE_FILE = "table.md"
SHEET_FILE = "sheet.png"
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
    """Networks to compare; the first is the one under test, a QDM.

    Attributes:
        members: The networks.
        minutes: Processor minutes of each network's training. 0: as many steps as its experiment says.
    """

    members: tuple[Member, ...]
    minutes: float = 60.0

    def __post_init__(self) -> None:
        """Reject a comparison without networks or without time."""
        if not self.members or self.members[0].model != "qdm":
            raise ConfigError("members must begin with the network under test, a member with model: qdm")
        if self.minutes < 0:
            raise ConfigError(f"minutes must not be negative, got {self.minutes}")


@dataclass(frozen=True)
class Trained:
    """A trained network of a comparison.

    Attributes:
        name: Its name in tables.
        scales: Magnifications that it serves.
        checkpoint: Its file.
        is_latent: Whether it works on the latents of the network under test; else it is one for images.
        facts: Facts about its training.
    """

    name: str
    scales: tuple[int, ...]
    checkpoint: Path
    is_latent: bool
    facts: TrainingFacts


def train_members(
    path: Path, start: Start, vae: Path, minutes: float | None = None, *, degradation: str = "paper"
) -> list[Trained]:
    """Train the networks of a comparison, each in a folder of its own; finished ones are left as they are.

    Args:
        path: File of the comparison.
        start: Data, device, and the folder of all of it; killed runs go on.
        vae: Checkpoint with the autoencoder of all latent models.
        minutes: Takes the place of the comparison's.
        degradation: Name from :data:`qdm_med.data.degradation.degrade.DEGRADATIONS`; all pairs are degraded so, but for
            ``"paper"``, where each experiment says what shares its pairs have.

    Raises:
        QdmMedError: If a file, the data or a folder is invalid.
    """
    comparison = from_mapping(ComparisonConfig, read_yaml(path), where=str(path))
    if minutes is not None:
        comparison = replace(comparison, minutes=minutes)
    experiments = [_on(degradation, load_config(path.parent / member.config)) for member in comparison.members]
    _require_own_names([experiment.name for experiment in experiments], str(path))
    make_folder(start.out)
    pairs = zip(comparison.members, experiments, strict=True)
    return [_train(member, experiment, comparison.minutes, start, vae) for member, experiment in pairs]


def _on(degradation: str, experiment: ExperimentConfig) -> ExperimentConfig:
    """The experiment with all pairs degraded in one way."""
    if degradation == "paper":
        return experiment
    shares = {"benchmark_share": 0.0, "scanner_share": 0.0, "clinical_share": 0.0} | {f"{degradation}_share": 1.0}
    goals = {name: replace(getattr(experiment, name), **shares) for name in ("training", "image_training")}
    return replace(experiment, **goals)


def _require_own_names(names: Sequence[str], where: str) -> None:
    if len(set(names)) < len(names):
        raise ConfigError(f"{where}: two members are called alike, among {', '.join(names)}; give each a name")


def _train(member: Member, experiment: ExperimentConfig, minutes: float, start: Start, vae: Path) -> Trained:
    own = replace(start, out=start.out / experiment.name, resume=True)
    config = _settled(member, experiment, minutes, own, vae)
    run_task(config, task_of(config, own, member.model, vae), own)
    checkpoint = own.out / CHECKPOINT_FILE
    is_latent = member.model not in IMAGE_MODELS
    return Trained(experiment.name, experiment.scales, checkpoint, is_latent, _facts(experiment, own.out, is_latent))


def _facts(experiment: ExperimentConfig, folder: Path, is_latent: bool) -> TrainingFacts:
    """Collect the facts that card, log and configuration of a run tell."""
    checkpoint = folder / CHECKPOINT_FILE
    card = read_card(checkpoint)[0] if is_latent else read_image_card(checkpoint)
    if card is None:
        raise CheckpointError(f"{checkpoint}: has no card; delete {folder} and start again")
    if isinstance(card, ModelCard):
        network: nn.Module = build_network(card.require_denoiser())
    else:
        network = ImageNetwork(card.network, card.scale)
    goals = vars(experiment.training if is_latent else experiment.image_training)
    weights = {name.removesuffix("_weight"): goals[name] for name in goals if name.endswith("_weight") and goals[name]}
    losses = [line["loss"] for line in RunLog(folder).lines() if "loss" in line]
    return TrainingFacts(
        sum(one.numel() for one in network.parameters()),
        experiment.scales,
        cpu_minutes=float(card.training["cpu_minutes"]),
        steps=int(card.training["step"]),
        loss=" + ".join(f"{name} {weight:g}" for name, weight in weights.items()),
        still_falling=share_still_falling(losses),
    )


def published(path: Path) -> Trained:
    """A network for images that was trained elsewhere: BSRGAN, SwinIR or another that ``spandrel`` knows.

    Raises:
        ConfigError: If spandrel is not installed.
        CheckpointError: If the file is missing, damaged or unknown.
    """
    name, scale, parameters = describe_image_model(path)
    return Trained(name, (scale,), path, False, TrainingFacts(parameters, (scale,)))


def _settled(member: Member, experiment: ExperimentConfig, minutes: float, start: Start, vae: Path) -> ExperimentConfig:
    """Set the number of steps to what the minutes allow, so that the learning rate falls to its end in that time.

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


def compare(trained: Sequence[Trained], start: Start, options: BenchmarkOptions, *, sheets: bool = False) -> str:
    """Score trained networks on the benchmark of every scale that the first one serves, and write one table.

    Args:
        trained: The networks; the first is under test. Of ``image_models`` in the options those of a scale stand beside them.
        start: Data, device, and the folder; scores of a killed run are kept.
        options: Options that all benchmarks share; name, models and counting are set here. Of ``results``, every folder holds
            one of each benchmark's name.
        sheets: Whether all methods are drawn side by side, a picture a benchmark.

    Returns:
        The table, where the network under test leads, and what sets it apart from those ahead, as Markdown; also written
        into the folder.

    Raises:
        ConfigError: If a folder of results holds none of a benchmark, or two networks are called alike.
    """
    for _, folder in options.results:
        if not any((folder / benchmark).is_dir() for benchmark in BENCHMARK_SCALES):
            raise ConfigError(
                f"{folder}: holds none of {', '.join(BENCHMARK_SCALES)}; give each benchmark's results a folder"
            )
    everyone = [*trained, *map(published, options.image_models)]
    _require_own_names([one.name for one in everyone], "--image-model")
    under_test = trained[0].name
    found = [
        _evaluation(benchmark, [one for one in everyone if scale in one.scales], start, options, sheets=sheets)
        for benchmark, scale in BENCHMARK_SCALES.items()
        if scale in trained[0].scales
    ]
    rows = [row for one in found for row in one.rows]
    facts = {one.name: one.facts for one in everyone}
    told = "\n".join([*(f"- {one.headline}." for one in found), f"- {_ranges(trained[0], options)}."])
    parts = [comparison_table(rows, facts).markdown(), told, leads(rows, under_test), reasons(rows, facts, under_test)]
    text = "\n\n".join(parts) + "\n"
    write_text(start.out / TABLE_FILE, text)
    return text


def _ranges(under_test: Trained, options: BenchmarkOptions) -> str:
    """Name the range of each group of figures."""
    intensity = read_card(under_test.checkpoint)[0].intensity
    ranges = protocols(intensity, options.degraded_in(intensity))
    return "; ".join(f"{one.prefix}psnr_db, {one.prefix}ssim: {one.words}" for one in ranges)


def _evaluation(
    benchmark: str, trained: Sequence[Trained], start: Start, options: BenchmarkOptions, *, sheets: bool
) -> Evaluation:
    first, *others = trained
    device = pick_device(start.device)
    start.report(f"scoring {benchmark}: {', '.join(one.name for one in trained)}")
    wanted = replace(
        options,
        benchmark=benchmark,
        results=tuple((name, own) for name, folder in options.results if (own := folder / benchmark).is_dir()),
        latent_models=tuple(one.checkpoint for one in others if one.is_latent),
        image_models=tuple(one.checkpoint for one in others if not one.is_latent),
        count_macs=True,
    )
    out = start.out / benchmark
    return evaluate_checkpoint(
        start.data,
        load_checkpoint(first.checkpoint),
        wanted,
        device=device,
        scoring=Scoring(Lpips(start.lpips_backbone) if start.lpips_backbone else None),
        outputs=Outputs(out, sheet=out / SHEET_FILE if sheets else None),
    )
