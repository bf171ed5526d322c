"""The training loop of both networks: steps, averaged weights, logs, and a state from which a run goes on.

A batch is a pure function of its step, so a resumed run needs the weights, the optimiser and the step alone and
continues bit for bit on a CPU.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from qdm_med import distributed
from qdm_med.checkpoint import read_tensors, save_atomically
from qdm_med.errors import CheckpointError, ConfigError

STATE_FILE = "state.safetensors"
LOG_FILE = "log.jsonl"
CHECKPOINT_FILE = "checkpoint.safetensors"


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast to train.

    Attributes:
        steps: Optimiser steps of the whole run; the learning rate falls to nearly zero over them.
        batch: Images a step, over all processes.
        learning_rate: Peak of Adam's learning rate.
        warmup: Steps over which the learning rate rises to its peak.
        cosine: Whether the learning rate then falls along a cosine; the paper keeps it constant.
        ema: Decay of the averaged weights, which are the ones that are validated and shipped.
        clip: Largest norm of the gradient.
        seed: Seed of everything random in the run.
        log_every: Steps between lines of the log.
        save_every: Steps between states; a killed run loses at most so many.
        validate_every: Steps between validations.
    """

    steps: int = 50_000
    batch: int = 64
    learning_rate: float = 5e-5
    warmup: int = 100
    cosine: bool = False
    ema: float = 0.999
    clip: float = 1.0
    seed: int = 0
    log_every: int = 10
    save_every: int = 500
    validate_every: int = 1000

    def __post_init__(self) -> None:
        """Reject counts of nothing."""
        for name in ("steps", "batch", "log_every", "save_every", "validate_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0; the cosine ends at a fiftieth of the peak."""
        warm = min(1.0, (step + 1) / max(1, self.warmup))
        if not self.cosine:
            return self.learning_rate * warm
        floor = 0.02
        return self.learning_rate * warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * step / self.steps)))


Objective = TypeVar("Objective", bound=nn.Module)


class Task(Protocol[Objective]):
    """What is trained: a module that maps a batch to its losses, and where batches come from."""

    objective: Objective
    """``objective(batch) -> losses``, a mapping of scalars whose ``"loss"`` is minimised; holds the trained network."""

    def batch(self, step: int) -> Any:
        """Make this process's share of the batch of ``step``: a pure function of the step."""
        ...

    def validate(self, objective: Objective) -> dict[str, float]:
        """Measure the averaged network on the validation split."""
        ...

    def export(self, objective: Objective, path: Path, training: Mapping[str, Any]) -> None:
        """Write the averaged network as a checkpoint."""
        ...


def warm_average(decay: float) -> Callable[[Tensor, Tensor, Tensor | int], Tensor]:
    """Exponential moving average whose memory grows with the run, ``min(decay, (1 + n) / (10 + n))`` at update n.

    With a fixed decay the weights of the first steps outlive a short run.
    """

    def average(averaged: Tensor, current: Tensor, updates: Tensor | int) -> Tensor:
        count = float(updates)
        return torch.lerp(current, averaged, min(decay, (1 + count) / (10 + count)))

    return average


class Trainer(Generic[Objective]):
    """One run: its folder, its weights, its optimiser."""

    def __init__(self, task: Task[Objective], config: LoopConfig, folder: Path) -> None:
        self.task, self.config, self.folder = task, config, folder
        self.average = AveragedModel(task.objective, avg_fn=warm_average(config.ema))
        self.optimiser = torch.optim.Adam(task.objective.parameters(), lr=config.learning_rate)
        self.step = 0
        self.seconds = 0.0

    def resume(self) -> bool:
        """Take up the run that the folder holds; False if it holds none."""
        path = self.folder / STATE_FILE
        if not path.is_file():
            return False
        tensors, metadata = read_tensors(path)
        try:
            self.task.objective.load_state_dict(_part(tensors, "objective"))
            self.average.load_state_dict(_part(tensors, "average"))
            self._load_optimiser(tensors)
        except (RuntimeError, KeyError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{path}: not a state of this configuration ({reason}); choose another --out"
            ) from None
        self.step, self.seconds = int(metadata["step"]), float(metadata["seconds"])
        return True

    def run(self) -> dict[str, float]:
        """Train to the last step and export; returns the last validation."""
        self._forget_log_after(self.step)
        network = self._distributed(self.task.objective)
        figures: dict[str, float] = {}
        while self.step < self.config.steps:
            started = time.perf_counter()
            losses = self._train_step(network)
            self.step += 1
            self.seconds += time.perf_counter() - started
            if self.step % self.config.log_every == 0:
                rate = self.config.learning_rate_at(self.step - 1)
                self._log({"step": self.step, "seconds": round(self.seconds, 2), "rate": rate, **losses})
            finished = self.step == self.config.steps
            if self.step % self.config.validate_every == 0 or finished:
                figures = self._validate()
            if self.step % self.config.save_every == 0 or finished:
                self._save(figures)
        return figures

    def _train_step(self, network: nn.Module) -> dict[str, float]:
        network.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate_at(self.step)
        losses: dict[str, Tensor] = network(self.task.batch(self.step))
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        norm = nn.utils.clip_grad_norm_(network.parameters(), self.config.clip)
        self.optimiser.step()
        self.average.update_parameters(self.task.objective)
        return {name: float(value.detach()) for name, value in losses.items()} | {"grad": float(norm)}

    def _validate(self) -> dict[str, float]:
        self.average.eval()
        figures = self.task.validate(self._averaged)
        self._log({"step": self.step, "seconds": round(self.seconds, 2), "validation": figures})
        return figures

    @property
    def _averaged(self) -> Objective:
        return cast("Objective", self.average.module)

    def _save(self, figures: Mapping[str, float]) -> None:
        if not distributed.is_main():
            return
        tensors = {
            f"{owner}.{name}": value
            for owner, state in (
                ("objective", self.task.objective.state_dict()),
                ("average", self.average.state_dict()),
                ("optimiser", self._optimiser_tensors()),
            )
            for name, value in state.items()
        }
        metadata = {"step": str(self.step), "seconds": str(self.seconds)}
        # The state comes last: whoever finds it finds the checkpoint of the same step or a newer one.
        training = {"step": self.step, "hours": round(self.seconds / 3600, 3), "validation": dict(figures)}
        self.task.export(self._averaged, self.folder / CHECKPOINT_FILE, training)
        save_atomically(self.folder / STATE_FILE, tensors, metadata)

    def _optimiser_tensors(self) -> dict[str, Tensor]:
        state = self.optimiser.state_dict()["state"]
        return {f"{index}.{name}": value.clone() for index, values in state.items() for name, value in values.items()}

    def _load_optimiser(self, tensors: Mapping[str, Tensor]) -> None:
        restored: dict[int, dict[str, Tensor]] = {}
        for name, value in _part(tensors, "optimiser").items():
            index, key = name.split(".", 1)
            restored.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": restored})

    def _distributed(self, objective: nn.Module) -> nn.Module:
        return DistributedDataParallel(objective) if distributed.world_size() > 1 else objective

    def _log(self, line: Mapping[str, Any]) -> None:
        if distributed.is_main():
            with (self.folder / LOG_FILE).open("a") as log:
                log.write(json.dumps(line) + "\n")

    def _forget_log_after(self, step: int) -> None:
        """Drop lines that a killed run logged after its last state: those steps are trained again."""
        log = self.folder / LOG_FILE
        if distributed.is_main() and log.is_file():
            whole = log.read_text().split("\n")[:-1]
            kept = [line for line in whole if json.loads(line)["step"] <= step]
            partial = log.with_name(f".{LOG_FILE}.partial")
            partial.write_text("".join(f"{line}\n" for line in kept))
            partial.replace(log)


def _part(tensors: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    prefix = f"{owner}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
