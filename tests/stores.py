"""Small slice stores that tests write."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qdm_med.data.store.slices import SliceRecord, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter

SIDE = 64


def blocky(seed: int, blocks: int = 8) -> NDArray[np.int16]:
    """A slice of ``blocks`` by ``blocks`` squares of random HU: flat within, edges between."""
    hu = np.random.default_rng(seed).integers(-900, 900, (blocks, blocks))
    return np.kron(hu, np.ones((SIDE // blocks, SIDE // blocks))).astype(np.int16)


def write_store(folder: Path, slices: Iterable[tuple[NDArray[np.int16], str, str]]) -> Path:
    """Write slices of 64 x 64, each with its split and its patient, who has one series."""
    with SliceStoreWriter(folder, slice_shape=(SIDE, SIDE)) as writer:
        for hu, split, patient in slices:
            writer.add(hu, SliceRecord(split, patient, patient, 0.0, 1.0, 1.0, "", "", "phantom", slice_checksum(hu)))
    return folder
