"""Training loop of every network: steps, averaged weights, logs, and a state from which a killed run resumes.

A batch is a pure function of its step, so a resumed run needs the weights, the optimisers and the step alone and
continues bit for bit on a CPU. Nor does a batch depend on how it is computed: many processes, each with several shares,
train the same network as one, to rounding.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from qdm_med import distributed
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.training.ahead import Ahead
from qdm_med.training.averaging import fixed_average, warm_average
from qdm_med.training.log import RunLog
from qdm_med.training.pictures import CURVES_FILE, SAMPLES_FILE, draw_curves, draw_samples
from qdm_med.training.state import STATE_FILE, Progress, load_state, save_state
from qdm_med.training.task import Objective, Share, Task, shares_of_process

CHECKPOINT_FILE = "checkpoint.safetensors"

Told = Callable[[int, int, str], None]
"""Hears of every step: its number, how many there will be, and the losses logged last."""


@dataclass(frozen=True)
class LoopConfig:
    """Length and speed of a training.

    Attributes:
        steps: Optimiser steps of the whole run; the learning rate falls to nearly zero over them.
        cpu_minutes: Processor minutes after which the run ends, whatever is left of ``steps``, so that networks can be compared
            at equal cost; validations are not counted. 0: no limit. The steps that are taken are those of a run without.
        batch: Images a step, over all processes.
        learning_rate: Peak of Adam's learning rate.
        warmup: Steps over which the learning rate rises to its peak.
        cosine: Whether the learning rate then falls along a cosine; the paper keeps it constant.
        ema: Decay of the averaged weights, which are the ones that are validated and shipped.
        ema_warmup: Whether that decay rises to ``ema`` in the first steps, so that the initial weights are soon forgotten; the
            paper's is fixed.
        clip: Largest norm of the gradient, of each player's own. 0: not clipped, as in the paper.
        seed: Seed of everything random in the run.
        log_every: Steps between lines of the log.
        save_every: Steps between states; a killed run loses at most so many.
        validate_every: Steps between validations.
        accumulate: Parts in which each process computes its share of a batch, one after the other, where a GPU cannot
            hold it at once; the step is the same, to rounding. A batch of few images has fewer parts.
        precision: ``"bfloat16"`` computes the networks' layers in bfloat16 under :func:`torch.autocast`, with weights,
            losses and optimiser in float32; ``"mixed"`` does so on CUDA and computes in float32 elsewhere.
    """

    steps: int = 50_000
    cpu_minutes: float = 0.0
    batch: int = 64
    learning_rate: float = 5e-5
    warmup: int = 100
    cosine: bool = False
    ema: float = 0.999
    ema_warmup: bool = True
    clip: float = 1.0
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 1000
    accumulate: int = 1
    precision: Literal["float32", "bfloat16", "mixed"] = "float32"

    def __post_init__(self) -> None:
        """Reject counts below 1."""
        for name in ("steps", "batch", "log_every", "save_every", "validate_every", "accumulate"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("cpu_minutes", "clip"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0; the cosine ends at a fiftieth of the peak."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        if not self.cosine:
            return self.learning_rate * warm
        floor = 0.02
        return self.learning_rate * warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


class Trainer(Generic[Objective]):
    """A run: its folder, its weights, its optimisers; ``told`` hears of every step.

    Args:
        task: What is trained, on what.
        config: Length and speed.
        folder: Where log, state and checkpoint are written.
        workers: Processes that draw batches ahead of their step; none of its results depends on them.
    """

    def __init__(self, task: Task[Objective], config: LoopConfig, folder: Path, *, workers: int = 0) -> None:
        self.task, self.config, self.folder = task, config, folder
        self._draw = Ahead(task, config.accumulate, workers)
        averaging = warm_average if config.ema_warmup else fixed_average
        self.average = AveragedModel(task.objective, multi_avg_fn=averaging(config.ema))
        self.optimisers = {
            name: torch.optim.Adam(player.parameters(), lr=config.learning_rate)
            for name, player in task.players.items()
        }
        self.step, self.seconds, self.cpu_seconds = Progress()
        self.told: Told = lambda step, steps, losses: None
        self._log = RunLog(folder)
        self._losses = ""

    def resume(self) -> bool:
        """Resume the run that the folder holds, in every process; False if it holds none.

        Raises:
            CheckpointError: If the state is damaged, of another configuration, or not the same for every process.
        """
        path = self.folder / STATE_FILE
        if path.is_file():
            self.step, self.seconds, self.cpu_seconds = load_state(path, *self._state)
        if (first := distributed.on_main(lambda: self.step)) != self.step:
            raise CheckpointError(
                f"{path}: process {distributed.rank()} finds step {self.step}, process 0 finds step {first}; "
                "put --out on a file system that all processes share"
            )
        return path.is_file()

    def run(self) -> dict[str, float]:
        """Train to the last step, or until the time is up, and export; returns the last validation."""
        try:
            return self._run()
        finally:
            self._draw.close()

    def _run(self) -> dict[str, float]:
        distributed.on_main(lambda: self._log.forget_after(self.step))
        network = self._of_all_processes()
        figures: dict[str, float] = {}
        finished = self._is_finished()
        while not finished:
            started, spent = time.perf_counter(), time.process_time()
            losses, norms = self._train_step(network)
            self.step += 1
            self.seconds += time.perf_counter() - started
            self.cpu_seconds += distributed.sum_of(time.process_time() - spent, self.device)
            finished = self._is_finished()
            if self.step % self.config.log_every == 0:
                self._log_losses(losses, norms)
            self.told(self.step, self.expected_steps(), self._losses)
            if self.step % self.config.validate_every == 0 or finished:
                figures = distributed.on_main(self._validate)
            if self.step % self.config.save_every == 0 or finished:
                distributed.on_main(partial(self._save, figures))
        return figures

    def expected_steps(self) -> int:
        """Steps of the whole run, as far as the processor time so far tells."""
        if not (self.config.cpu_minutes and self.cpu_seconds):
            return self.config.steps
        until_time_is_up = math.ceil(self.step * self.config.cpu_minutes * 60 / self.cpu_seconds)
        return max(self.step, min(self.config.steps, until_time_is_up))

    def _of_all_processes(self) -> nn.Module:
        return distributed.exchanging(self.task.objective, may_skip_parameters=self.task.may_skip_parameters)

    def take_step(self) -> None:
        """Take one step that is neither timed nor logged nor kept."""
        self._train_step(self._of_all_processes())
        self.step += 1

    def _is_finished(self) -> bool:
        return 0 < self.config.cpu_minutes * 60 <= self.cpu_seconds or self.step >= self.config.steps

    def _train_step(self, network: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Take one step.

        Returns:
            This process's part of each loss, which add up to the batch's mean, and the norm of each player's gradient.
        """
        network.train()
        for optimiser in self.optimisers.values():
            optimiser.zero_grad(set_to_none=True)
        losses: dict[str, Tensor] = {}
        shares = shares_of_process(self.task.size(self.step), self.config.accumulate)
        for share in shares:
            with nullcontext() if share is shares[-1] else distributed.without_exchange(network):
                for name, value in self._backward(network, share).items():
                    losses[name] = losses[name] + value if name in losses else value
        norms = {name: self._move(name) for name in self.optimisers if name in losses}
        self.average.update_parameters(self.task.objective)
        return losses, norms

    def _move(self, name: str) -> Tensor:
        """Let one player take its step, and return the norm of its gradient."""
        for group in self.optimisers[name].param_groups:
            group["lr"] = self.config.learning_rate_at(self.step)
        norm = nn.utils.clip_grad_norm_(self.task.players[name].parameters(), self.config.clip or math.inf)
        self.optimisers[name].step()
        return norm

    def _backward(self, network: nn.Module, share: Share) -> dict[str, Tensor]:
        """Add a share's gradient to the parameters', and return its losses, weighted by its part of the items."""
        batch = self.task.batch(self._draw(self.step, share))
        size = self.task.size(self.step)
        weight = len(share.items(size)) / size
        with self._precision():
            losses: dict[str, Tensor] = network(batch)
        played = torch.stack([losses[name].float() for name in self.task.players if name in losses]).sum()
        # DistributedDataParallel divides the processes' sum by their number: right for equal shares of means only.
        (played * (weight * distributed.world_size())).backward()  # type: ignore[no-untyped-call]
        return {name: value.detach().float() * weight for name, value in losses.items()}

    @property
    def device(self) -> torch.device:
        """Device of this process."""
        return next(self.task.objective.parameters()).device

    def _precision(self) -> AbstractContextManager[object]:
        device = self.device.type
        if self.config.precision == "float32" or (self.config.precision == "mixed" and device != "cuda"):
            return nullcontext()
        return torch.autocast(device, dtype=torch.bfloat16)

    def _log_losses(self, losses: Mapping[str, Tensor], norms: Mapping[str, Tensor]) -> None:
        means = distributed.reduce_sum(torch.stack(list(losses.values()))).tolist()
        if distributed.is_main():
            line = self._so_far | {"rate": self.config.learning_rate_at(self.step - 1)}
            gradients = {_of(name, "grad"): float(norm) for name, norm in norms.items()}
            self._log.write(line | dict(zip(losses, means, strict=True)) | gradients)
            self._losses = ", ".join(f"{name} {mean:.4g}" for name, mean in zip(losses, means, strict=True))

    def _validate(self) -> dict[str, float]:
        self.average.eval()
        validation = self.task.validate(self._averaged)
        self._log.write(self._so_far | {"validation": validation.figures})
        draw_curves(self._log.lines(), self.folder / CURVES_FILE)
        draw_samples(validation.samples, self.folder / SAMPLES_FILE)
        return validation.figures

    @property
    def _so_far(self) -> dict[str, Any]:
        """Step and time, with which every line of the log begins."""
        minutes = round(self.cpu_seconds / 60, 4)
        return {"step": self.step, "seconds": round(self.seconds, 2), "cpu_minutes": minutes}

    @property
    def _state(self) -> tuple[dict[str, nn.Module], dict[str, torch.optim.Optimizer]]:
        """Networks and optimisers by their names in the state file."""
        return (
            {"objective": self.task.objective, "average": self.average},
            {_of(name, "optimiser"): optimiser for name, optimiser in self.optimisers.items()},
        )

    @property
    def _averaged(self) -> Objective:
        return cast("Objective", self.average.module)

    def _save(self, figures: Mapping[str, float]) -> None:
        # The state comes last: whoever finds it finds the checkpoint of the same step or a newer one.
        spent = {"hours": round(self.seconds / 3600, 3), "cpu_minutes": round(self.cpu_seconds / 60, 4)}
        training = {"step": self.step, **spent, "validation": dict(figures)}
        self.task.export(self._averaged, self.folder / CHECKPOINT_FILE, training)
        save_state(self.folder / STATE_FILE, *self._state, Progress(self.step, self.seconds, self.cpu_seconds))


def _of(player: str, what: str) -> str:
    """Name of a player's value in log and state; the shipped network's goes without the player."""
    return what if player == "loss" else f"{player}_{what}"
