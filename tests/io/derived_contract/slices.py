"""What a rule judges and a mutation changes, and the commonest of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pydicom.dataset import Dataset


@dataclass(frozen=True)
class Slice:
    """A derived slice, its source and the whole derived series in the order of the file names."""

    derived: Dataset
    source: Dataset
    series: list[Dataset]

    def stored(self) -> tuple[np.ndarray, np.ndarray]:
        """Stored values of source and derived as they stand in the file."""
        return tuple(
            np.frombuffer(ds.PixelData, "<i2")[: ds.Rows * ds.Columns].reshape(ds.Rows, ds.Columns).astype(int)
            for ds in (self.source, self.derived)
        )


Rule = Callable[[Slice], bool]
Mutate = Callable[[list[Dataset]], object]
Mutations = list[tuple[str, Mutate, str | None]]
"""Rule that is broken, how, and the row of the outside checker that must notice; ``None``: it has none."""


def constant(*keywords):
    return lambda pair: all(len({str(ds.get(keyword)) for ds in pair.series}) == 1 for keyword in keywords)


def put(keyword, value) -> Mutate:
    return lambda series: setattr(series[0], keyword, value)


def put_all(keyword, value) -> Mutate:
    return lambda series: [setattr(ds, keyword, value) for ds in series]


def cut(keyword) -> Mutate:
    return lambda series: delattr(series[0], keyword)
