"""Slices that several trainings share."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med.data.store.slices import SliceRecord, anonymous_key, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Three blocky slices of 64 x 64 to train on and one to validate on, each of another patient."""
    folder = tmp_path_factory.mktemp("data") / "store"
    with SliceStoreWriter(folder, slice_shape=(64, 64)) as writer:
        for number in range(4):
            rng = np.random.default_rng(number)
            hu = np.kron(rng.integers(-900, 900, (8, 8)), np.ones((8, 8))).astype(np.int16)
            split, patient = ("train", "val")[number == 3], anonymous_key(f"patient {number}")
            writer.add(hu, SliceRecord(split, patient, patient, 0.0, 1.0, 1.0, "", "", "phantom", slice_checksum(hu)))
    return folder
