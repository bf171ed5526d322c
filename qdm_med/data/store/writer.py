"""Writer of a slice store, shard by shard, so that a killed run can be resumed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from qdm_med.data.store.slices import (
    FORMAT_VERSION,
    HEADER_FILE,
    INDEX_FILE,
    HuArray,
    SliceRecord,
    parse_record,
    read_shard,
    shard_path,
    slice_checksum,
)
from qdm_med.errors import DataError
from qdm_med.files import write_text, write_whole

_STARTED_FILE = "started.json"
"""Settings of a store that is not finished."""


class SliceStoreWriter:
    """Write a store shard by shard, with the memory of one shard.

    A shard appears under its name only when it is whole, and is listed in the index only afterwards. A writer that
    was killed can be started again on the same folder with the same settings: :attr:`kept` lists what it need not be given again.
    Leaving the ``with`` block without an exception finishes the store.

    Args:
        path: Folder to create, or one that an earlier, unfinished writer left.
        shard_size: Slices a shard.
        slice_shape: Rows and columns that every slice must have.
        split_rule: Rule that divides patients into splits, in words, for the header.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        shard_size: int = 256,
        slice_shape: tuple[int, int] = (512, 512),
        split_rule: str = "",
    ) -> None:
        if shard_size < 1:
            raise DataError(f"shard_size must be at least 1, got {shard_size}")
        self.path = Path(path)
        self._shard_size = shard_size
        self._shape = slice_shape
        self._split_rule = split_rule
        self._buffer: HuArray = np.empty((shard_size, *slice_shape), dtype=np.int16)
        self._pending: list[SliceRecord] = []
        self._finished = False
        self.kept: tuple[SliceRecord, ...] = ()
        """Records of the slices in shards that an earlier writer finished, in order."""
        self._written = 0

    def __enter__(self) -> SliceStoreWriter:
        """Create the folder, or continue what an earlier writer left.

        Raises:
            DataError: If the folder already holds a finished store, or one that was started with other settings.
        """
        if (self.path / HEADER_FILE).exists():
            raise DataError(f"{self.path} already holds a finished slice store; choose another folder or delete it")
        self.path.mkdir(parents=True, exist_ok=True)
        self._check_settings()
        self.kept = tuple(self._kept_records())
        self._written = len(self.kept)
        # Lines without a whole shard behind them would be listed twice once the shard is written again.
        write_text(self.path / INDEX_FILE, _lines(self.kept))
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        """Finish the store unless an exception is on its way out."""
        if kind is None:
            self.finish()

    def __len__(self) -> int:
        """Count the slices kept and added."""
        return self._written + len(self._pending)

    def kept_hu(self, index: int) -> HuArray:
        """Pixels of the slice that :attr:`kept` lists at ``index``, as a read-only view of the disk."""
        shard, row = divmod(index, self._shard_size)
        plane: HuArray = read_shard(shard_path(self.path, shard))[row]
        return plane

    def add(self, hu: HuArray, record: SliceRecord) -> None:
        """Append one ``(rows, columns)`` int16 slice.

        Raises:
            DataError: If shape, type or checksum do not fit.
        """
        if hu.shape != self._shape or hu.dtype != np.int16:
            raise DataError(f"a slice must be int16 {self._shape}, got {hu.dtype} {hu.shape}; convert it first")
        if slice_checksum(hu) != record.sha256:
            raise DataError(f"slice {len(self)} differs from the checksum in its record; compute it from these pixels")
        self._buffer[len(self._pending)] = hu
        self._pending.append(record)
        if len(self._pending) == self._shard_size:
            self._flush()

    def finish(self) -> None:
        """Write the last shard and the header; further calls do nothing."""
        if self._finished:
            return
        if self._pending:
            self._flush()
        header = {**self._settings(), "slices": self._written}
        write_text(self.path / HEADER_FILE, (json.dumps(header, indent=2) + "\n"))
        (self.path / _STARTED_FILE).unlink()
        self._finished = True

    def _settings(self) -> dict[str, Any]:
        return {
            "format_version": FORMAT_VERSION,
            "shard_size": self._shard_size,
            "slice_shape": list(self._shape),
            "split_rule": self._split_rule,
        }

    def _check_settings(self) -> None:
        """Refuse to continue a store of other settings: its splits or shards would be of two kinds."""
        file = self.path / _STARTED_FILE
        settings = json.dumps(self._settings())
        if file.exists() and file.read_text() != settings:
            raise DataError(f"{self.path} was started with another split rule or shard size; delete it and start again")
        write_text(file, settings)

    def _flush(self) -> None:
        target = shard_path(self.path, self._written // self._shard_size)
        write_whole(target, lambda file: np.save(file, self._buffer[: len(self._pending)]))
        with (self.path / INDEX_FILE).open("a") as index:
            index.write(_lines(self._pending))
        self._written += len(self._pending)
        self._pending.clear()

    def _kept_records(self) -> list[SliceRecord]:
        index = self.path / INDEX_FILE
        # A killed writer may leave half a line: only lines that end count.
        lines = index.read_text().split("\n")[:-1] if index.is_file() else []
        whole = 0
        while (whole + 1) * self._shard_size <= len(lines) and self._is_whole(whole):
            whole += 1
        return [parse_record(line, str(index)) for line in lines[: whole * self._shard_size]]

    def _is_whole(self, number: int) -> bool:
        path = shard_path(self.path, number)
        return path.is_file() and read_shard(path).shape == (self._shard_size, *self._shape)


def _lines(records: Sequence[SliceRecord]) -> str:
    return "".join(json.dumps(asdict(record), sort_keys=True) + "\n" for record in records)
