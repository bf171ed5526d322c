"""Slices that several trainings share."""

from __future__ import annotations

import pytest

from qdm_med.data.store.slices import anonymous_key
from tests.stores import blocky, write_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Three blocky slices of 64 x 64 to train on and one to validate on, each of another patient."""
    slices = (
        (blocky(number), "val" if number == 3 else "train", anonymous_key(f"patient {number}")) for number in range(4)
    )
    return write_store(tmp_path_factory.mktemp("data") / "store", slices)
