"""Weight files that describe themselves: safetensors with a card and a hash in their metadata.

The card is JSON; the hash of the weights is checked when they are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.files import whole_file
from qdm_med.serialise import from_mapping, to_mapping

Card = TypeVar("Card")


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names and little-endian bytes of the tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_atomically(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with whole_file(path) as partial:
        save_file(stored, partial, dict(metadata))
        partial.chmod(0o644)  # safetensors writes files that only their owner can read


def save_weights(path: Path, kind: str, card: object, tensors: Mapping[str, Tensor]) -> str:
    """Write weights under their card and return their hash.

    Args:
        path: File to write; it appears whole.
        kind: Value of ``format`` in its metadata.
        card: Dataclass that :func:`parse_card` reads back.
        tensors: Weights by name, on any device.
    """
    sha256 = weights_hash(tensors)
    save_atomically(path, tensors, {"format": kind, "card": _written(card), "sha256": sha256})
    return sha256


def save_with_card(source: Path, out: Path, card: object) -> None:
    """Write a file again under another card; weights and their precision stay as they are.

    Args:
        source: File that :func:`save_weights` wrote.
        out: File to write; may be ``source``.
        card: Same networks, other facts about them.

    Raises:
        CheckpointError: If the source is missing or damaged.
    """
    tensors, metadata = read_tensors(source)
    save_atomically(out, tensors, metadata | {"card": _written(card)})


def _written(card: object) -> str:
    return json.dumps(to_mapping(card), sort_keys=True)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read a whole safetensors file: its tensors and its metadata.

    Raises:
        CheckpointError: If it is missing, cut short or no safetensors file.
    """
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def read_metadata(path: Path) -> dict[str, str]:
    """Read the metadata of a safetensors file without its tensors.

    Raises:
        CheckpointError: As for :func:`read_tensors`.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such checkpoint; give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"{path}: not a whole safetensors file ({reason}); copy or download it again") from None


def parse_card(path: Path, kind: type[Card], metadata: Mapping[str, str]) -> Card:
    """Read a card from the metadata of its file.

    Raises:
        CheckpointError: If it is missing or of another shape.
    """
    try:
        return from_mapping(kind, json.loads(metadata["card"]))
    except (KeyError, ValueError, ConfigError) as error:
        raise CheckpointError(
            f"{path}: its card cannot be read ({error}); was it written by a newer version?"
        ) from None


def require_whole(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Check the weights of a file against its hash and return the hash.

    Raises:
        CheckpointError: If it is not the one that the file states.
    """
    sha256 = weights_hash(tensors)
    if sha256 != metadata.get("sha256"):
        raise CheckpointError(f"{path}: the weights do not match their hash; the file is damaged, copy it again")
    return sha256


def load_networks(path: Path, tensors: Mapping[str, Tensor], **networks: nn.Module | None) -> None:
    """Give each network its part of a checkpoint's weights, by its owner's name, and set it to evaluation.

    Args:
        path: The checkpoint, for the error.
        tensors: Weights by name, each after its owner and a dot.
        networks: ``autoencoder`` and ``denoiser``, of the shapes that the card says; ``None``: there is none.

    Raises:
        CheckpointError: If weights do not fit their network.
    """
    for owner, network in networks.items():
        if network is not None:
            load_part(path, network, tensors, owner)
            network.eval()


def load_part(path: Path, network: nn.Module, tensors: Mapping[str, Tensor], owner: str) -> None:
    """Give a network its part of a checkpoint's weights, as float32.

    Args:
        path: The checkpoint, for the error.
        network: Network of the shape that the card says.
        tensors: Weights by name, those of ``network`` after ``owner`` and a dot.
        owner: ``"autoencoder"`` or ``"denoiser"``.

    Raises:
        CheckpointError: If they do not fit.
    """
    prefix = f"{owner}."
    own = {name.removeprefix(prefix): value.float() for name, value in tensors.items() if name.startswith(prefix)}
    load_fitting(network, own, f"{path}: its {owner} does not fit its card")


def load_fitting(network: nn.Module, state: Mapping[str, Tensor], complaint: str) -> None:
    """Give a network all its weights, each of the right shape.

    Raises:
        CheckpointError: If they do not fit; ``complaint`` is the beginning of its line.
    """
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{complaint} ({reason})") from None
