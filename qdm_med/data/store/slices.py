"""A store of CT slices: int16 HU in memory-mapped shards, one line of JSON about each slice.

Layout of a store, all of it readable without this package::

    store.json         format version, shard size, slice shape, split rule; written last
    index.jsonl        one SliceRecord a line, in slice order
    shard-00000.npy    (shard_size, rows, columns) int16 HU; the last shard may be shorter
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdm_med.errors import DataError

HuArray = NDArray[np.int16]

FORMAT_VERSION = 1
SPLITS = ("train", "val", "test")

HEADER_FILE = "store.json"
INDEX_FILE = "index.jsonl"


def anonymous_key(identifier: str) -> str:
    """Name a patient or series by 16 hex digits of SHA-256, the same on every machine.

    It keeps identifiers out of files and logs; it is not encryption: who knows an identifier can recognise it.

    >>> anonymous_key("patient 1")
    'fe7592d01d79c2c5'
    """
    return hashlib.sha256(identifier.encode()).hexdigest()[:16]


def slice_checksum(hu: HuArray) -> str:
    """SHA-256 of a slice's pixels as little-endian int16, row by row."""
    return hashlib.sha256(np.ascontiguousarray(hu, dtype="<i2").tobytes()).hexdigest()


@dataclass(frozen=True)
class SliceRecord:
    """Record of one slice; nothing in it identifies the patient.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``.
        patient: :func:`anonymous_key` of the patient.
        series: :func:`anonymous_key` of the series.
        position_mm: Place along the slice normal.
        pixel_spacing_mm: Distance of neighbouring pixel centres as stored here (after any resampling).
        slice_thickness_mm: Nominal thickness; 0 where the source did not say.
        kernel: Reconstruction kernel; empty where unknown.
        manufacturer: Scanner vendor; empty where unknown.
        source: Collection the slice came from, free text.
        sha256: :func:`slice_checksum` of the pixels.
    """

    split: str
    patient: str
    series: str
    position_mm: float
    pixel_spacing_mm: float
    slice_thickness_mm: float
    kernel: str
    manufacturer: str
    source: str
    sha256: str

    def __post_init__(self) -> None:
        """Reject a split that no command would ever read."""
        if self.split not in SPLITS:
            raise DataError(f"split {self.split!r} of a slice is unknown; known: {', '.join(SPLITS)}")


def parse_record(line: str, where: str) -> SliceRecord:
    """Read one line of the index; ``where`` names it in errors.

    Raises:
        DataError: If the line is not a slice record.
    """
    known = {field.name for field in fields(SliceRecord)}
    try:
        values: dict[str, Any] = json.loads(line)
        if not isinstance(values, dict) or values.keys() != known:
            raise ValueError("its keys are not those of a slice record")
        return SliceRecord(**values)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: {error}; rebuild the store with qdm-med prepare") from None


def shard_path(folder: Path, number: int) -> Path:
    """Path of shard ``number`` of a store."""
    return folder / f"shard-{number:05d}.npy"


def read_shard(path: Path) -> HuArray:
    """Map a shard into memory, read-only.

    Raises:
        DataError: If the file is missing or is no NumPy array.
    """
    try:
        shard: HuArray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({reason}); rebuild the store with qdm-med prepare") from None
    return shard


class SliceStore:
    """Read-only view of a finished store; slices stay on disk until they are used."""

    def __init__(
        self, path: Path, shards: Sequence[HuArray], records: Sequence[SliceRecord], header: dict[str, Any]
    ) -> None:
        self.path = path
        self.records = tuple(records)
        self.header = header
        self._shards = tuple(shards)
        self._shard_size = int(header["shard_size"])

    @classmethod
    def open(cls, path: Path | str) -> SliceStore:
        """Open a store and check that its parts belong together; pixels are checked by :meth:`verify`.

        Raises:
            DataError: If the folder holds no finished store, or a part of it is missing or damaged.
        """
        path = Path(path)
        header = _read_header(path)
        index = (path / INDEX_FILE).read_text().splitlines() if (path / INDEX_FILE).is_file() else []
        records = [parse_record(line, f"{path / INDEX_FILE} line {n}") for n, line in enumerate(index, start=1)]
        if len(records) != header["slices"]:
            raise DataError(
                f"{path / INDEX_FILE} describes {len(records)} slices, {HEADER_FILE} promises {header['slices']}; "
                "rebuild the store with qdm-med prepare"
            )
        size = header["shard_size"]
        shards = []
        for number, start in enumerate(range(0, len(records), size)):
            shard = read_shard(shard_path(path, number))
            expected = (min(size, len(records) - start), *header["slice_shape"])
            if shard.shape != expected or shard.dtype != np.int16:
                raise DataError(
                    f"{shard_path(path, number)} holds {shard.dtype} {shard.shape}, not int16 {expected}; "
                    "rebuild the store with qdm-med prepare"
                )
            shards.append(shard)
        return cls(path, shards, records, header)

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.records)

    @property
    def slice_shape(self) -> tuple[int, int]:
        """Rows and columns of every slice."""
        rows, columns = self.header["slice_shape"]
        return int(rows), int(columns)

    @property
    def split_rule(self) -> str:
        """Rule that divided the patients into splits, in words."""
        return str(self.header["split_rule"])

    def hu(self, index: int) -> HuArray:
        """Slice ``index`` as a read-only ``(rows, columns)`` view of int16 HU on disk."""
        if not 0 <= index < len(self):
            raise IndexError(f"slice {index} of a store of {len(self)}")
        shard, row = divmod(index, self._shard_size)
        plane: HuArray = self._shards[shard][row]
        return plane

    def indices(self, split: str) -> list[int]:
        """Numbers of the slices of one split, ascending.

        Raises:
            DataError: If the split has no slice.
        """
        chosen = [index for index, record in enumerate(self.records) if record.split == split]
        if not chosen:
            raise DataError(f"{self.path} has no slice in split {split!r}; prepare a store whose sources include some")
        return chosen

    def patients(self, split: str) -> list[str]:
        """Anonymous keys of the patients of one split, in alphabetical order; empty if the split is."""
        return sorted({record.patient for record in self.records if record.split == split})

    def spread_over_patients(self, split: str, per_patient: int) -> dict[str, list[int]]:
        """Up to ``per_patient`` slices of each patient of a split, evenly spaced over the patient's.

        Args:
            split: Split with at least one slice.
            per_patient: Largest number of slices a patient, at least 1.

        Returns:
            Patient -> numbers of slices, both ascending.

        Raises:
            DataError: If the split has no slice.
        """
        own: dict[str, list[int]] = {}
        for index in self.indices(split):
            own.setdefault(self.records[index].patient, []).append(index)
        return {patient: _evenly(own[patient], per_patient) for patient in sorted(own)}

    def verify(self) -> None:
        """Read every slice and compare it with its checksum.

        Raises:
            DataError: For the first slice that differs.
        """
        for index, record in enumerate(self.records):
            if slice_checksum(self.hu(index)) != record.sha256:
                shard = shard_path(self.path, index // self._shard_size)
                raise DataError(f"{shard}: slice {index} differs from its checksum; rebuild with qdm-med prepare")


def _evenly(indices: list[int], number: int) -> list[int]:
    number = min(number, len(indices))
    return [indices[(2 * place + 1) * len(indices) // (2 * number)] for place in range(number)]


def _read_header(path: Path) -> dict[str, Any]:
    file = path / HEADER_FILE
    if not file.is_file():
        started = "an unfinished" if (path / INDEX_FILE).exists() else "no"
        raise DataError(f"{path} holds {started} slice store; build it with qdm-med prepare")
    try:
        header: dict[str, Any] = json.loads(file.read_text())
        version, size, count = header["format_version"], int(header["shard_size"]), int(header["slices"])
        rows, columns = header["slice_shape"]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{file} is damaged ({error}); rebuild the store with qdm-med prepare") from None
    if version != FORMAT_VERSION:
        raise DataError(f"{file} has format version {version}, not {FORMAT_VERSION}; rebuild with qdm-med prepare")
    if min(size, rows, columns) < 1 or count < 0:
        raise DataError(f"{file} has sizes that are not positive; rebuild the store with qdm-med prepare")
    return {"split_rule": "", **header}
