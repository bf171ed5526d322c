"""Cases of a benchmark: true slices with the low-resolution slices made from them, and the record to make them again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from qdm_med.data.degradation.degrade import BENCHMARK, DegradationConfig, DegradationParams
from qdm_med.data.pairs import SlicePair, degraded_pair, pair_of
from qdm_med.data.store.slices import SliceRecord, SliceStore
from qdm_med.errors import ConfigError, DataError
from qdm_med.intensity import AsinhRange, CompandedRange, HuWindow, IntensityMap
from qdm_med.serialise import from_mapping
from qdm_med.volume import FloatArray


@dataclass(frozen=True)
class Case:
    """One slice of a benchmark.

    Attributes:
        index: Number of the slice in its store.
        record: The store's record of the slice.
        reference_hu: ``(rows, columns)`` true HU, clipped to the range of ``intensity``; ``None`` where nobody knows.
        low_hu: ``(rows / scale, columns / scale)`` HU that methods are given.
        scale: High-resolution pixels a low-resolution pixel.
        params: Parameters of the degradation that made the low-resolution slice.
        intensity: The mapping in whose range it was made.
        low_sha256: Checksum of the low-resolution slice, from :func:`low_checksum`.
    """

    index: int
    record: SliceRecord
    reference_hu: FloatArray | None
    low_hu: FloatArray
    scale: int
    params: DegradationParams
    intensity: IntensityMap
    low_sha256: str


def low_checksum(low_res: Tensor) -> str:
    """SHA-256 of the 8-bit grey levels of a low-resolution image in [-1, 1], row by row."""
    levels = np.rint((low_res.numpy() + 1.0) * 127.5).astype(np.uint8)
    return hashlib.sha256(levels.tobytes()).hexdigest()


def make_case(
    store: SliceStore,
    index: int,
    scale: int,
    seed: int,
    intensity: IntensityMap,
    degradation: DegradationConfig = BENCHMARK,
) -> Case:
    """Degrade one slice of a store, by the benchmark's distribution unless another is given, and by the slice's own key."""
    return _case(store, degraded_pair(store, index, scale, degradation, seed, intensity=intensity), intensity)


def rebuild_case(store: SliceStore, entry: Mapping[str, Any], intensity: IntensityMap) -> Case:
    """Make a case again, bit for bit, from its record in a manifest or in ``cases.jsonl``.

    Args:
        store: A store that holds the slice, at any place.
        entry: With the keys ``sha256``, ``low_sha256`` and ``degradation``.
        intensity: The mapping of the manifest.

    Raises:
        DataError: If the store lacks the slice, or the result differs from the record.
    """
    places = {record.sha256: index for index, record in enumerate(store.records)}
    if entry["sha256"] not in places:
        raise DataError(
            f"{store.path} lacks slice {entry['sha256'][:16]}; use the store that the benchmark was made of"
        )
    params = from_mapping(DegradationParams, entry["degradation"])
    case = _case(store, pair_of(store, places[entry["sha256"]], params, intensity=intensity), intensity)
    if case.low_sha256 != entry["low_sha256"]:
        raise DataError(f"slice {entry['sha256'][:16]} was degraded to other pixels; use the version in the receipt")
    return case


def _case(store: SliceStore, pair: SlicePair, intensity: IntensityMap) -> Case:
    return Case(
        index=pair.index,
        record=pair.record,
        reference_hu=np.clip(store.hu(pair.index), *intensity.hu_range).astype(np.float32),
        low_hu=intensity.to_hu(pair.low_res[0, 0].numpy()),
        scale=pair.scale,
        params=pair.params,
        intensity=intensity,
        low_sha256=low_checksum(pair.low_res),
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """Read a ``benchmark.json`` or ``inputs.json``, for :func:`manifest_cases`.

    Raises:
        DataError: If it cannot be read, is no such list, or lists nothing.
    """
    try:
        manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        read_intensity(manifest["intensity"])
        sound = isinstance(manifest["benchmark"], str) and bool(manifest["cases"])
        sound = sound and all(entry.keys() >= {"sha256", "low_sha256", "degradation"} for entry in manifest["cases"])
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); give a benchmark.json or inputs.json") from None
    except (ValueError, TypeError, KeyError, AttributeError, ConfigError):
        sound = False
    if not sound:
        raise DataError(f"{path} is no list of a benchmark's slices; give a benchmark.json or inputs.json of `eval`")
    return manifest


def read_intensity(values: Mapping[str, Any]) -> IntensityMap:
    """Read the mapping of a manifest."""
    rest = {key: value for key, value in values.items() if key != "kind"}
    kinds: dict[str, type[IntensityMap]] = {kind.kind: kind for kind in (HuWindow, CompandedRange, AsinhRange)}
    return from_mapping(kinds[values["kind"]], rest)


def manifest_cases(store: SliceStore, manifest: Mapping[str, Any]) -> Iterator[Case]:
    """Make all cases of a ``benchmark.json`` again; see :func:`rebuild_case`."""
    intensity = read_intensity(manifest["intensity"])
    for entry in manifest["cases"]:
        yield rebuild_case(store, entry, intensity)
