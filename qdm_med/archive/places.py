"""Place the output of a series: beside its fellows in a tree of the same shape."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from qdm_med.archive.manifest import PlannedSeries
from qdm_med.io.read import VOLUME_SUFFIXES

WRITTEN_AS = {".nhdr": ".nrrd", ".mhd": ".mha"}
"""Formats in two files become their one-file form."""


def with_places(
    found: Sequence[PlannedSeries], tree_name: str, scale: Callable[[PlannedSeries], int], earlier: Mapping[str, str]
) -> list[PlannedSeries]:
    """Give every accepted series its place in the output.

    A series is named after its folder or file with ``-srx4`` added, so that no output lies within another. Where several
    series want one name each gets its digest added. A series that has a place keeps it, whatever is found beside it later.

    Args:
        found: Series without places.
        tree_name: Name of the tree, for series that lie in it directly.
        scale: Magnification of a series, part of its name.
        earlier: Places that an earlier scan gave, by the series' digest.
    """
    wanted = {one.id: _name(one, tree_name, scale(one)) for one in found if not one.refused and one.id not in earlier}
    often = Counter(place.lower() for place in wanted.values())
    often.update(place.lower() for place in earlier.values())
    places = {**wanted, **earlier}
    for identity, place in wanted.items():
        if often[place.lower()] > 1:
            places[identity] = _distinct(place, identity)
    return [one if one.refused else replace(one, out=places[one.id]) for one in found]


def _name(series: PlannedSeries, tree_name: str, scale: int) -> str:
    place = PurePosixPath(series.source)
    if series.member and not series.series_uid:
        place = place.with_suffix("") / series.member
    elif series.member:
        place = place.with_suffix("")
    if not place.name:
        place = PurePosixPath(tree_name or "series")
    suffix = "" if series.series_uid else _volume_suffix(place.name)
    stem = place.name[: len(place.name) - len(suffix)]
    return str(place.with_name(f"{stem}-srx{scale}{WRITTEN_AS.get(suffix.lower(), suffix)}"))


def _volume_suffix(name: str) -> str:
    known = next((s for s in VOLUME_SUFFIXES if name.lower().endswith(s)), "")
    return name[len(name) - len(known) :]


def _distinct(place: str, identity: str) -> str:
    path = PurePosixPath(place)
    suffix = _volume_suffix(path.name)
    return str(path.with_name(f"{path.name[: len(path.name) - len(suffix)]}-{identity[:8]}{suffix}"))
