"""Benchmarks of photographs in the paper, from the user's folders: LSDIR-Test, RealSR, RealSet80."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qdm_med.data.degradation.second_order_params import SecondOrderConfig
from qdm_med.errors import ConfigError, DataError
from qdm_med.natural.formats import BENCHMARKS
from qdm_med.natural.images import Photo, list_photos, read_photo
from qdm_med.natural.pairs import degraded_pair
from qdm_med.natural.photos import centre_crop
from qdm_med.serialise import to_mapping

SIDE = 512
"""Side of the centre crops of LSDIR-Test in pixels."""

_LOW = re.compile(r"^(?:lr|low)$|_lr$|^test_lr$", re.IGNORECASE)
_HIGH = re.compile(r"^(?:hr|gt|high)$|_hr$|^test_hr$", re.IGNORECASE)
_MARK = re.compile(r"[_-]?(?:LR\d*|HR)(?:x\d+)?$", re.IGNORECASE)
"""Names of folders, and ends of names of files, that tell the two halves of a pair."""


@dataclass(frozen=True, eq=False)
class NaturalCase:
    """One photograph of a benchmark.

    Attributes:
        name: Name of its file.
        low_res: The input.
        high_res: ``(1, 3, H, W)`` in [-1, 1], the truth if there is one.
        degradation: Parameters of the degradation that made the input, if it was made.
    """

    name: str
    low_res: Photo
    high_res: Tensor | None = None
    degradation: Mapping[str, Any] = field(default_factory=dict)


def lsdir_test(folder: Path, scale: int, seed: int) -> Iterator[NaturalCase]:
    """Cases of LSDIR-Test: middles of 512 x 512 pixels, degraded as in training, each by its own pixels and the seed."""
    for path in list_photos(folder):
        pair = degraded_pair(centre_crop(read_photo(path), SIDE), SecondOrderConfig(), scale=scale, seed=seed)
        yield NaturalCase(path.name, as_photo(path, pair.low_res), pair.high_res, to_mapping(pair.params))


def realsr(folder: Path, scale: int, seed: int) -> Iterator[NaturalCase]:
    """Cases of RealSR: pairs ``NAME_LR4.png`` and ``NAME_HR.png``, or the same name in two folders such as LR and HR."""
    for low, high in pairs_by_name(list_photos(folder)):
        low_res, high_res = read_photo(low), read_photo(high)
        wanted = tuple(side * scale for side in low_res.size)
        if high_res.size != wanted:
            raise DataError(
                f"{low}: {low_res.size[0]}x{low_res.size[1]} pixels are not a {scale}th of {high.name}'s "
                f"{high_res.size[0]}x{high_res.size[1]}; give inputs that are really smaller"
            )
        yield NaturalCase(low.name, low_res, torch.from_numpy(high_res.unit())[None])


def realset80(folder: Path, scale: int, seed: int) -> Iterator[NaturalCase]:
    """Cases of RealSet80: photographs without a truth."""
    for path in list_photos(folder):
        yield NaturalCase(path.name, read_photo(path))


_MAKERS: Mapping[str, Callable[[Path, int, int], Iterator[NaturalCase]]] = MappingProxyType(
    dict(zip(BENCHMARKS, (lsdir_test, realsr, realset80), strict=True))
)
"""Name -> what makes its cases of a folder, a scale and a seed."""


def cases_of(benchmark: str, folder: Path, *, scale: int, seed: int = 0, every: int = 1) -> Iterator[NaturalCase]:
    """Choose every n-th case of a benchmark.

    Raises:
        ConfigError: If the benchmark is unknown.
        DataError: If the folder or a file in it is invalid.
    """
    if benchmark not in BENCHMARKS:
        raise ConfigError(f"benchmark {benchmark!r} is unknown; known: {', '.join(BENCHMARKS)}")
    for number, case in enumerate(_MAKERS[benchmark](folder, scale, seed)):
        if number % every == 0:
            yield case


def pairs_by_name(paths: list[Path]) -> list[tuple[Path, Path]]:
    """Match low- and high-resolution files by name.

    Raises:
        DataError: If a file has no other half, or tells neither by its name nor by its folder which half it is.
    """
    halves: dict[str, dict[str, Path]] = {"low": {}, "high": {}}
    for path in paths:
        half = _half(path)
        key = _MARK.sub("", path.stem)
        if key in halves[half]:
            raise DataError(f"{path}: {halves[half][key]} has the same name; give one folder of pairs at a time")
        halves[half][key] = path
    alone = halves["low"].keys() ^ halves["high"].keys()
    if alone:
        key = min(alone)
        path = halves["low"].get(key) or halves["high"][key]
        raise DataError(f"{path}: has no other half; {len(alone)} of {len(paths)} files have none")
    return [(halves["low"][key], halves["high"][key]) for key in sorted(halves["low"])]


def _half(path: Path) -> str:
    mark = _MARK.search(path.stem)
    if mark is not None:
        return "high" if "HR" in mark[0].upper() else "low"
    if _LOW.search(path.parent.name):
        return "low"
    if _HIGH.search(path.parent.name):
        return "high"
    raise DataError(f"{path}: is it LR or HR? name files NAME_LR4 and NAME_HR, or put them into folders LR and HR")


def as_photo(path: Path, low_res: Tensor) -> Photo:
    """Turn ``(1, 3, h, w)`` on 256 levels of [-1, 1] into the photograph that a file would hold."""
    samples = ((low_res[0] + 1) * 127.5).round().to(torch.uint8).movedim(0, -1)
    return Photo(path, np.ascontiguousarray(samples.numpy()))
