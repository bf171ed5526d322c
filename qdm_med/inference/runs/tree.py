"""Places of the outputs of many series: a tree of the same shape as the input's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePath

from qdm_med.io.find import FoundSeries
from qdm_med.io.write import default_output


def places_for(found: Sequence[FoundSeries], root: Path, out: Path, scale: int) -> list[Path]:
    """Choose a place below ``out`` for every series: where it lies below ``root``, under its own name where several lie there.

    No output lies inside another one.

    Args:
        found: Series below ``root``.
        root: Folder that was searched.
        out: Folder of the outputs.
        scale: Magnification, part of the name of volume files.
    """
    homes = [each.path.relative_to(root) for each in found]
    shared = Counter(home for home, each in zip(homes, found, strict=True) if each.series_uid)
    taken: Counter[PurePath] = Counter()
    places = []
    for home, each in zip(homes, found, strict=True):
        inside = any(other != home and home in other.parents for other in homes)
        if not each.series_uid:
            place = home.with_name(default_output(each.path, scale).name)
        elif shared[home] > 1 or inside or home == PurePath():
            place = home / f"series-{each.number if each.number is not None else 0}"
        else:
            place = home
        taken[place] += 1
        places.append(out / (place if taken[place] == 1 else place.with_name(f"{place.name}-{taken[place]}")))
    return places
