"""All the phantoms of the clinical benchmark in one list."""

from __future__ import annotations

from collections.abc import Iterator

from qdm_med.evaluation.clinical.case import ClinicalCase
from qdm_med.evaluation.clinical.details import detail_case
from qdm_med.evaluation.clinical.ladder import ladder_case
from qdm_med.evaluation.clinical.resolution import edge_case, line_pair_case
from qdm_med.evaluation.clinical.scan import Scan
from qdm_med.keys import keyed

DETAIL_SCANS = (Scan(0.8), Scan(1.2, 6.0), Scan(1.2, 12.0), Scan(1.7, 12.0), Scan(1.7, 25.0))
"""Scans of the phantom of details, from sharp and quiet to smooth and noisy."""

DETAIL_REPEATS = 2
"""Phantoms of each of these scans: discs are few, and their detectability is a ratio of few numbers."""

PHANTOMS = 4 + DETAIL_REPEATS * len(DETAIL_SCANS)
"""Slices that :func:`synthetic_cases` makes."""


def synthetic_cases(scale: int, seed: int) -> Iterator[ClinicalCase]:
    """Draw the phantoms at a magnification, each with randomness of its own."""
    rngs = (keyed(str(seed), "clinical phantom", str(scale), str(number)) for number in range(PHANTOMS))
    yield ladder_case(scale, next(rngs))
    yield ladder_case(scale, next(rngs), directed=True)
    yield edge_case(scale, next(rngs))
    yield line_pair_case(scale, next(rngs))
    for scan in DETAIL_SCANS:
        for _ in range(DETAIL_REPEATS):
            yield detail_case(scale, scan, next(rngs))
