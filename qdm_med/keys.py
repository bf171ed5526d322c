"""Random keys of the package: every draw is a function of a seed, of its purpose, and of its place.

No generator is carried along, so that a draw depends neither on what was drawn before nor on who else draws. A key is the
text of its parts, hashed: two keys are the same only if all their parts are. (A list of integers given to NumPy is not
such a key. NumPy pads it with zeros, and ``[seed, step]`` draws what ``[seed, step, 0]`` draws.)
"""

from __future__ import annotations

import hashlib
from typing import Literal

import numpy as np
import torch

Use = Literal["step", "scale", "crop", "diffusion", "autoencoder crop", "posterior", "transform", "phantom"]
"""Draws of training: what the items of a step share; a batch's scale; an item's crop and degradation; an item's timestep,
noise and withheld leaves; an item's crop for the autoencoder; an item's draw from its posterior; the state of MONAI's
random transforms for an item; a phantom of a smoke test."""


def rng(seed: int, use: Use, *place: int) -> np.random.Generator:
    """Make a generator for one use at one place.

    >>> first, again = rng(0, "crop", 5, 0), rng(0, "crop", 5, 0)
    >>> bool(first.random() == again.random())
    True

    Args:
        seed: The user's seed.
        use: Purpose of the draws.
        place: Step, or step and item.
    """
    return keyed(str(seed), use, *map(str, place))


def keyed(*parts: str) -> np.random.Generator:
    """Make a counter-based generator (Philox), keyed by texts that hold no ``|``."""
    key = int.from_bytes(hashlib.sha256("|".join(parts).encode()).digest()[:16], "little")
    return np.random.Generator(np.random.Philox(key=key))


def slice_degradation(seed: int, scale: int, sha256: str) -> np.random.Generator:
    """Generator for degrading a whole slice: alike in any store and any order, since the slice's own pixels are the key.

    Benchmarks are made by it, so it stays what it was first: a list of integers, whose last is never 0.

    Args:
        seed: Seed of the benchmark.
        scale: Magnification.
        sha256: Hex digest of the slice.
    """
    return np.random.default_rng([seed, scale, int(sha256[:16], 16)])


def recorded(seed: int) -> np.random.Generator:
    """Generator for a seed that stands in a record: noise of a degradation, a bootstrap of a table."""
    return np.random.default_rng(seed)


def seed_initial_weights(seed: int) -> None:
    """Seed the sequence that networks take their first weights from; nothing else draws from it."""
    torch.manual_seed(seed)
