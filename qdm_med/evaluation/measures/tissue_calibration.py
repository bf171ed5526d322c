"""Calibration of the samples' standard deviation by tissue, so that every group of pixels is covered, not only all together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from qdm_med.evaluation.measures.calibration import fit_terms
from qdm_med.uncertainty import COVERAGE, REACH, SpreadCalibration, TissueSpread

Floats = NDArray[np.float64]

PLACES_HU: Mapping[str, float] = MappingProxyType(
    {
        "lung": -850.0,
        "walls of the lung": -450.0,
        "fat": -100.0,
        "soft tissue": 40.0,
        "denser tissue": 150.0,
        "contrast medium": 300.0,
        "bone": 900.0,
    }
)
"""HU of the samples' mean at which factor and floor are told."""

FEWEST_PIXELS = 200
"""Pixels below which a place has no fit of its own and takes that of the nearest place that has."""

MOST_PIXELS = 40_000
"""Pixels of a place that its fit looks at."""

ROOM = 0.005
"""Coverage beyond 95 % that is asked for where it is measured: other patients have a little less."""

ROUNDS = 40
"""Times that factors and floors grow where a group is not covered; a few are enough."""


LARGEST_GROWTH = 0.2
"""Share by which a place grows at most in one round: the places share the work, and the next round sees what is left."""


LARGEST_EDGE_GROWTH = 4.0
"""Multiple of its fit that an edge factor may reach before the other numbers grow as well."""


class Pixels(NamedTuple):
    """Pixels of one group, such as bone in clinical slices: ``(N,)`` HU each.

    Attributes:
        error: Absolute error of the samples' mean.
        std: Standard deviation of the samples.
        mean: The samples' mean.
        contrast: Its :func:`qdm_med.uncertainty.local_contrast`.
    """

    error: Floats
    std: Floats
    mean: Floats
    contrast: Floats


def fit_by_tissue(groups: Mapping[str, Pixels]) -> tuple[TissueSpread, ...]:
    """Fit factor and floor by the HU of the samples' mean, so that every group is covered.

    First the quantile regression of :func:`qdm_med.evaluation.measures.calibration.fit_terms` at every place, over all groups
    together. Then, while a group has less than its 95 %, the edge factors grow at those places where the pixels lie that are not
    covered, and where that does not do, all numbers there: what is missed lies at edges for the most part, and flat tissue should
    not pay for it.

    Args:
        groups: Name -> pixels; a pixel may belong to several.
    """
    everything = Pixels(*(np.concatenate(parts) for parts in zip(*groups.values(), strict=True)))
    tissues = _fitted(everything)
    inhabitants = np.bincount(_places(everything.mean), minlength=len(tissues))
    first = tissues
    for grown in (_grown_at_edges, _grown):
        for _ in range(ROUNDS):
            growth = np.max([_growth(pixels, tissues, inhabitants) for pixels in groups.values()], axis=0)
            if (growth <= 1).all():
                break
            tissues = tuple(map(grown, tissues, growth.tolist(), first))
    return tuple(
        TissueSpread(one.tissue, one.hu, round(one.factor, 3), round(one.floor_hu, 2), round(one.edge, 3))
        for one in tissues
    )


def _grown_at_edges(one: TissueSpread, by: float, first: TissueSpread) -> TissueSpread:
    return replace(one, edge=min(one.edge * by, LARGEST_EDGE_GROWTH * first.edge))


def _grown(one: TissueSpread, by: float, first: TissueSpread) -> TissueSpread:
    return replace(one, factor=one.factor * by, floor_hu=one.floor_hu * by, edge=one.edge * by)


def coverage(pixels: Pixels, tissues: tuple[TissueSpread, ...]) -> float:
    """Share of pixels whose error is at most :data:`qdm_med.uncertainty.REACH` calibrated standard deviations."""
    return float((pixels.error <= REACH * _calibrated(pixels, tissues)).mean())


def _calibrated(pixels: Pixels, tissues: tuple[TissueSpread, ...]) -> Floats:
    calibration = SpreadCalibration(1, 1, 2, 1.0, 0.0, COVERAGE, tissues)
    known = (values.astype(np.float32) for values in (pixels.std, pixels.mean, pixels.contrast))
    return calibration.by_tissue(*known).astype(np.float64)


def _places(mean: Floats) -> NDArray[np.int64]:
    """Find the nearest place of each pixel."""
    places = np.array(list(PLACES_HU.values()))
    return np.searchsorted((places[1:] + places[:-1]) / 2, mean)


def _fitted(pixels: Pixels) -> tuple[TissueSpread, ...]:
    place = _places(pixels.mean)
    fits: dict[int, tuple[float, float, float]] = {}
    for number in range(len(PLACES_HU)):
        own = np.flatnonzero(place == number)
        if len(own) >= FEWEST_PIXELS:
            fits[number] = _fit(pixels, own)
    if not fits:
        fits[0] = _fit(pixels, np.arange(len(place)))
    nearest = [min(fits, key=lambda known, number=number: abs(known - number)) for number in range(len(PLACES_HU))]  # type: ignore[misc]
    return tuple(TissueSpread(name, hu, *fits[at]) for (name, hu), at in zip(PLACES_HU.items(), nearest, strict=True))


def _fit(pixels: Pixels, own: NDArray[np.int64]) -> tuple[float, float, float]:
    """Fit factor, floor and edge factor to some pixels."""
    drawn = own[:: max(1, len(own) // MOST_PIXELS)]
    factor, edge, floor = fit_terms(pixels.error[drawn], pixels.std[drawn], pixels.contrast[drawn])
    return factor, floor, edge


def _growth(pixels: Pixels, tissues: tuple[TissueSpread, ...], inhabitants: NDArray[np.int64]) -> Floats:
    """``(places,)`` factor, at least 1, by which each place must grow to cover this group.

    A place grows the more, the larger the share of its inhabitants that are pixels of the group and not covered: bone
    would else be covered by making all muscle uncertain, where one pixel in a hundred is bone that the network missed.
    """
    ratio = pixels.error / np.maximum(REACH * _calibrated(pixels, tissues), 1e-6)
    wanted = float(np.quantile(ratio, COVERAGE + ROOM))
    if wanted <= 1:
        return np.ones(len(tissues))
    guilty = np.bincount(_places(pixels.mean[ratio > 1]), minlength=len(tissues)) / np.maximum(inhabitants, 1)
    return 1 + min(wanted - 1, LARGEST_GROWTH) * guilty / guilty.max()
