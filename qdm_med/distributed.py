"""The only file that touches ``torch.distributed``: one process, or one of many started by torchrun."""

from __future__ import annotations

import atexit
import os
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qdm_med.errors import ConfigError, QdmMedError

PATIENCE = timedelta(minutes=30)
"""Time for which a process waits for the others: rank 0 validates and exports alone."""

Result = TypeVar("Result")


def own_device(device: torch.device) -> torch.device:
    """Device of this process: among several GPUs the one numbered by torchrun's ``LOCAL_RANK``, unless one was named.

    Raises:
        ConfigError: If a machine runs more processes than it has GPUs.
    """
    if str(device) != "cuda" or "LOCAL_RANK" not in os.environ:
        return device
    number, count = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if number >= count:
        raise ConfigError(f"process {number} of this machine finds {count} GPUs; start torchrun with fewer processes")
    return torch.device("cuda", number)


def join(device: torch.device) -> None:
    """Join the processes that torchrun describes in the environment; without torchrun, do nothing.

    The group lasts to the end of the process: torchrun's store keeps the addresses of a group that was left, and a
    second one in the same process would wait for them for ever.

    Args:
        device: Device of this process; NCCL connects GPUs, gloo everything else.
    """
    if "RANK" not in os.environ or dist.is_initialized():
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    atexit.register(dist.destroy_process_group)


def rank() -> int:
    """Number of this process among all of the run."""
    return dist.get_rank() if dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes the run folder."""
    return rank() == 0


def on_main(action: Callable[[], Result]) -> Result:
    """Run something in rank 0 while the others wait, and give every process its (pickled) result.

    An error of ours is raised in every process, so that nobody waits for one that has left. Any other exception ends
    rank 0 alone; torchrun then stops the rest.
    """
    if not dist.is_initialized():
        return action()
    told: list[Any] = [None, None]  # result, error
    if is_main():
        try:
            told[0] = action()
        except QdmMedError as error:
            told[1] = error
    dist.broadcast_object_list(told)
    if told[1] is not None:
        raise told[1]
    result: Result = told[0]
    return result


def reduce_sum(value: torch.Tensor) -> torch.Tensor:
    """Sum of ``value`` over all processes."""
    if not dist.is_initialized():
        return value
    total = value.clone()
    dist.all_reduce(total)
    return total


def sum_of(value: float, device: torch.device) -> float:
    """Sum of a number over all processes, the same in each; ``device`` is this one's."""
    return value if world_size() == 1 else float(reduce_sum(torch.tensor(value, device=device)))


def exchanging(network: nn.Module, *, may_skip_parameters: bool) -> nn.Module:
    """Wrap a network so that processes exchange gradients, if there are several.

    A batch without an active leaf leaves the downstream without a gradient, and so may one process's share of a
    batch. Searching for such parameters, instead of touching them with a zero, keeps the gradient of those that no
    process used absent, and Adam leaves them alone, as it does in one process.

    Args:
        network: The network; its parameters are the same in every process.
        may_skip_parameters: Whether a step may leave some of them without a gradient.
    """
    if world_size() == 1:
        return network
    with warnings.catch_warnings():
        # torch 2.14 renames broadcast_buffers; the old name is the one that all versions know.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            network,
            broadcast_buffers=False,  # position tables and latent statistics do not change
            find_unused_parameters=may_skip_parameters,
        )


def without_exchange(network: nn.Module) -> AbstractContextManager[object]:
    """Gather gradients in this process only, until the last share of a step exchanges them all."""
    return network.no_sync() if isinstance(network, DistributedDataParallel) else nullcontext()
