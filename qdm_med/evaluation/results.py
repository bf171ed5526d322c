"""Rows of a benchmark, and the folder that keeps them: appended slice by slice, so that a killed run can be resumed."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qdm_med.errors import ConfigError, DataError
from qdm_med.files import write_text
from qdm_med.serialise import from_mapping

RECEIPT_FILE = "receipt.json"
CASES_FILE = "cases.jsonl"


@dataclass(frozen=True)
class SliceScore:
    """Scores of one method on one slice.

    Attributes:
        method: Name of the method.
        scale: High-resolution pixels a low-resolution pixel.
        patient: Anonymous key of the patient.
        sha256: Checksum of the true slice.
        seconds: Wall time of the method; differs from run to run.
        scores: Column name -> value.
        cost: Leaf density, windows, multiply-accumulates, as far as the method knows them.
        low_sha256: Checksum of the low-resolution slice.
        degradation: Parameters of the degradation that made the low-resolution slice.
    """

    method: str
    scale: int
    patient: str
    sha256: str
    seconds: float
    scores: Mapping[str, float]
    cost: Mapping[str, float] = field(default_factory=dict)
    low_sha256: str = ""
    degradation: Mapping[str, Any] = field(default_factory=dict)


class ResultsFolder:
    """Folder with the receipt and the finished cases.

    The receipt says what makes rows comparable (options, model, data, versions). A folder begun with another receipt is
    refused: half of its rows would mean something else.

    Args:
        path: Folder to create or to go on with.
        receipt: JSON types only.

    Attributes:
        done: Rows of an earlier run, whole slices only.

    Raises:
        DataError: If the folder holds other results, foreign files under their names, or cannot be written.
    """

    def __init__(self, path: Path, receipt: Mapping[str, Any]) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DataError(f"{path} cannot be made ({error.strerror}); give another --out") from None
        self._check_receipt(receipt)
        self.done = self._read(int(receipt["methods"]))
        # Half a line, or a slice of which only some methods were done, would be counted twice.
        write_text(path / CASES_FILE, "".join(map(_line, self.done)))

    def append(self, rows: Sequence[SliceScore]) -> None:
        """Keep all rows of one slice; when this returns, they are on disk."""
        with (self.path / CASES_FILE).open("a") as file:
            file.write("".join(map(_line, rows)))
            file.flush()
            os.fsync(file.fileno())

    def _check_receipt(self, receipt: Mapping[str, Any]) -> None:
        file = self.path / RECEIPT_FILE
        if not file.exists():
            if (self.path / CASES_FILE).exists():
                raise DataError(f"{self.path} holds {CASES_FILE} without {RECEIPT_FILE}; give another --out")
            write_text(file, json.dumps(receipt, indent=2) + "\n")
            return
        try:
            earlier = json.loads(file.read_text())
        except ValueError:
            raise DataError(f"{file} is damaged; delete {self.path} or give another --out") from None
        now = json.loads(json.dumps(receipt))
        for key in sorted(set(now) | set(earlier)):
            if now.get(key) != earlier.get(key):
                raise DataError(
                    f"{self.path} was begun with {key} {earlier.get(key)!r}, now it is {now.get(key)!r}; "
                    "go on with the same options or give another --out"
                )

    def _read(self, methods: int) -> list[SliceScore]:
        file = self.path / CASES_FILE
        # A killed run may leave half a line: only lines that end count.
        lines = file.read_text().split("\n")[:-1] if file.exists() else []
        rows = [_row(line, f"{file} line {number}") for number, line in enumerate(lines, start=1)]
        return rows[: len(rows) // methods * methods]


def _line(row: SliceScore) -> str:
    return json.dumps(asdict(row)) + "\n"


def _row(line: str, where: str) -> SliceScore:
    try:
        return from_mapping(SliceScore, json.loads(line), where=where)
    except (ValueError, ConfigError) as error:
        raise DataError(f"{where} is damaged ({error}); delete the folder or give another --out") from None
