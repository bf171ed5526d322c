"""A store of drawn slices, for trying a command before one has data."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from qdm_med.data.store.references import REFERENCE_SIDE
from qdm_med.data.store.slices import SliceRecord, anonymous_key, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.data.synthetic import SyntheticConfig, synthetic_slice
from qdm_med.keys import rng

SLICES = {"train": 4, "val": 2}
"""Slices of each split: enough for every command to run through, too few for anything else."""
SPACING_MM = 0.7


def write_smoke_store(path: Path) -> Path:
    """Write a store of a few phantoms, the same every time.

    Args:
        path: Folder to create.

    Returns:
        ``path``.
    """
    rule = "built-in phantoms: a smoke test"
    with SliceStoreWriter(path, shard_size=sum(SLICES.values()), split_rule=rule) as writer:
        for place, (split, count) in enumerate(SLICES.items()):
            for number in range(count):
                drawn = synthetic_slice(SyntheticConfig(), REFERENCE_SIDE, 4, rng(0, "phantom", place, number))
                hu = np.rint(drawn).astype(np.int16)
                writer.add(hu, _record(split, number, slice_checksum(hu)))
    return path


def _record(split: str, number: int, checksum: str) -> SliceRecord:
    key = anonymous_key(f"phantom {split} {number}")
    return SliceRecord(
        split=split,
        patient=key,
        series=key,
        position_mm=0.0,
        pixel_spacing_mm=SPACING_MM,
        slice_thickness_mm=0.0,
        kernel="",
        manufacturer="",
        source="phantom",
        sha256=checksum,
    )
