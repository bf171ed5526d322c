"""Interface of training tasks, and the division of a step's items into shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from qdm_med import distributed
from qdm_med.errors import ConfigError

Objective = TypeVar("Objective", bound=nn.Module)
Store = TypeVar("Store")


Distance = Callable[[Tensor, Tensor], Tensor]
"""``(B, 1, H, W)`` image and reference in [-1, 1] -> ``(B,)`` differentiable distances, such as LPIPS."""


@dataclass(frozen=True)
class Run(Generic[Store]):
    """Everything that a run brings to its task.

    Attributes:
        store: Slices, or photographs, to train and to validate on.
        batch: Items in a batch, over all processes.
        seed: Key of every draw and of the first weights.
        device: Device of this process.
        perceptual: Distance of a perceptual term, if there is one.
    """

    store: Store
    batch: int
    seed: int
    device: torch.device
    perceptual: Distance | None = None


@dataclass(frozen=True)
class Share:
    """One of ``count`` shares of a batch: the items ``index``, ``index + count`` and so on."""

    index: int
    count: int

    def items(self, size: int) -> range:
        """Numbers of this share's items in a batch of ``size``.

        >>> list(Share(1, 3).items(8))
        [1, 4, 7]
        """
        return range(self.index, size, self.count)


def require_item_for_every_process(size: int) -> None:
    """Refuse batches of which some process would get no item.

    Raises:
        ConfigError: If ``size`` is less than the number of processes.
    """
    if size < distributed.world_size():
        raise ConfigError(
            f"the smallest batch has {size} images, too few for {distributed.world_size()} processes; "
            "raise loop.batch or start fewer processes"
        )


def shares_of_process(size: int, accumulate: int) -> list[Share]:
    """List the shares of a batch that this process computes, one after the other.

    Args:
        size: Items in the batch of all processes together, at least one a process.
        accumulate: Shares a process; fewer where the batch has not so many items.
    """
    world, rank = distributed.world_size(), distributed.rank()
    parts = min(accumulate, size // world)
    return [Share(part * world + rank, parts * world) for part in range(parts)]


class Sample(NamedTuple):
    """One super-resolved validation slice, each image ``(H, W)`` in [-1, 1] on the CPU.

    Attributes:
        name: Scale and number of the slice.
        bicubic: The bicubically upsampled input.
        result: The network's answer.
        reference: The slice itself.
    """

    name: str
    bicubic: Tensor
    result: Tensor
    reference: Tensor


class Validation(NamedTuple):
    """Result of a validation.

    Attributes:
        figures: Numbers for the log.
        samples: Some images to look at; none where the task has none to show.
    """

    figures: dict[str, float]
    samples: tuple[Sample, ...] = ()


class Task(Protocol[Objective]):
    """Task of a training: a module that maps a batch to its losses, and the batches."""

    objective: Objective
    """``objective(batch) -> losses``, a mapping of scalars; holds the networks that are trained.

    Every loss is a mean over the batch's items, all of one size, so that the losses of shares, weighted by their items,
    add up to the loss of the whole batch.
    """

    players: Mapping[str, nn.Module]
    """Which part of the objective minimises which of its losses; ``"loss"`` is the one of the network that is shipped.

    Each loss has a gradient in its own player's weights alone. All of them take a step at once, each with an optimiser of
    its own. A batch may come without some of the losses; their players then stand still.
    """

    may_skip_parameters: bool
    """Whether a batch may leave parameters without a gradient."""

    def size(self, step: int) -> int:
        """Number of items in the batch of ``step``, over all shares: a pure function of the step."""
        ...

    def draw(self, step: int, share: Share) -> Any:
        """Draw a share of the batch of ``step``, on the CPU: a pure function of both that no network takes part in.

        It may be called in another process, ahead of its step; what it returns is sent from there.
        """
        ...

    def batch(self, drawn: Any) -> Any:
        """Bring what was drawn to the device, and add what networks make of it."""
        ...

    def validate(self, objective: Objective) -> Validation:
        """Measure the averaged network on the validation split."""
        ...

    def export(self, objective: Objective, path: Path, training: Mapping[str, Any]) -> None:
        """Write the averaged network as a checkpoint."""
        ...
