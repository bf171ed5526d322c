"""State from which a killed run resumes: weights, averaged weights, optimisers, step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn
from torch.optim import Optimizer

from qdm_med.checkpoints.file import read_tensors, save_atomically
from qdm_med.errors import CheckpointError

STATE_FILE = "state.safetensors"


class Progress(NamedTuple):
    """Progress of a run: its step and the time it has taken.

    Attributes:
        step: Optimiser steps taken.
        seconds: Wall time of the steps.
        cpu_seconds: Time that the processors spent on them, all threads of all processes together.
    """

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


def save_state(
    path: Path, networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer], progress: Progress
) -> None:
    """Write the state of networks and optimisers by their names; the old file stays until the new one is whole."""
    states: dict[str, Mapping[str, Tensor]] = {owner: network.state_dict() for owner, network in networks.items()}
    states |= {owner: _optimiser_tensors(optimiser) for owner, optimiser in optimisers.items()}
    tensors = {f"{owner}.{name}": value for owner, state in states.items() for name, value in state.items()}
    save_atomically(path, tensors, {name: str(value) for name, value in progress._asdict().items()})


def load_state(path: Path, networks: Mapping[str, nn.Module], optimisers: Mapping[str, Optimizer]) -> Progress:
    """Read a state back into the networks and optimisers that it was written from.

    Raises:
        CheckpointError: If the file is damaged or belongs to another configuration.
    """
    tensors, metadata = read_tensors(path)
    try:
        for owner, network in networks.items():
            network.load_state_dict(_part(tensors, owner))
        for owner, optimiser in optimisers.items():
            _load_optimiser(optimiser, _part(tensors, owner))
        # Earlier builds did not count processor time.
        spent = float(metadata.get("cpu_seconds", metadata["seconds"]))
        return Progress(int(metadata["step"]), float(metadata["seconds"]), spent)
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{path}: not a state of this configuration ({reason}); choose another --out") from None


def _optimiser_tensors(optimiser: Optimizer) -> dict[str, Tensor]:
    state = optimiser.state_dict()["state"]
    return {f"{index}.{name}": value.clone() for index, values in state.items() for name, value in values.items()}


def _load_optimiser(optimiser: Optimizer, tensors: Mapping[str, Tensor]) -> None:
    restored: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        restored.setdefault(int(index), {})[key] = value
    optimiser.load_state_dict(optimiser.state_dict() | {"state": restored})


def _part(tensors: Mapping[str, Tensor], owner: str) -> dict[str, Tensor]:
    prefix = f"{owner}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
