"""Rules that split a store by patient: all slices of a patient go to the same side."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

from qdm_med.data.store.slices import SPLITS, anonymous_key
from qdm_med.errors import DataError


@dataclass(frozen=True)
class Assignment:
    """Decision of a rule about one file.

    Attributes:
        split: ``"train"``, ``"val"`` or ``"test"``.
        patient: Anonymous key of the patient.
        source: Collection; empty where the rule does not know.
    """

    split: str
    patient: str
    source: str = ""


class SplitRule(Protocol):
    """A rule that assigns files to splits."""

    @property
    def description(self) -> str:
        """The rule in words, as the store keeps it."""
        ...

    def assign(self, file: PurePosixPath, patient: str) -> Assignment | None:
        """Place a file, given relative to the sources, of a patient; ``None`` leaves it out."""
        ...


@dataclass(frozen=True)
class HashSplit:
    """Patients whose SHA-256 falls into the lowest ``val_fraction`` of its range are ``val``, the others ``train``.

    Adding patients never moves one that is already there.
    """

    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        """Reject a fraction outside [0, 1)."""
        if not 0 <= self.val_fraction < 1:
            raise DataError(f"val_fraction must lie in [0, 1), got {self.val_fraction}")

    @property
    def description(self) -> str:
        """The rule in words."""
        return f"by patient: val where the first 64 bits of SHA-256(patient key) are below {self.val_fraction:g} of their range, else train"

    def assign(self, file: PurePosixPath, patient: str) -> Assignment:
        """Place a patient by hash; the file does not matter."""
        digest = int.from_bytes(hashlib.sha256(patient.encode()).digest()[:8])
        return Assignment("val" if digest < self.val_fraction * 2**64 else "train", patient)


class CsvSplit:
    """Splits from a CSV with the columns ``split`` and ``file`` or ``patient_id``; others are optional.

    A file is looked up by its path relative to the sources, then by ever shorter ends of it, so that the sources may
    lie deeper or less deep than the CSV says; last by its patient. Files found in neither way are left out.

    Args:
        path: The CSV. A column ``source`` names the collection of a row's slices.

    Raises:
        DataError: If the file cannot be read, lacks a column, or puts a file or patient into two splits.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._by_file: dict[str, Assignment] = {}
        self._by_patient: dict[str, Assignment] = {}
        try:
            content = path.read_bytes()
            rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline="")))
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path}: cannot be read ({error}); give a CSV with the columns file and split") from None
        self._sha256 = hashlib.sha256(content).hexdigest()
        columns = set(rows[0]) if rows else set()
        if "split" not in columns or not columns & {"file", "patient_id"}:
            raise DataError(
                f"{path}: needs the columns split and file (or patient_id), has {sorted(map(str, columns))}"
            )
        for number, row in enumerate(rows, start=2):
            self._add(row, number)

    def _add(self, row: dict[str, str | None], line: int) -> None:
        split = (row["split"] or "").strip()
        if split not in SPLITS:
            raise DataError(f"{self._path} line {line}: split {split!r} is unknown; known: {', '.join(SPLITS)}")
        patient, file, source = ((row.get(key) or "").strip() for key in ("patient_id", "file", "source"))
        key = anonymous_key(patient) if patient else ""
        assignment = Assignment(split, key, source)
        if key and self._by_patient.setdefault(key, assignment).split != split:
            raise DataError(f"{self._path} line {line}: its patient is in split {self._by_patient[key].split} above")
        if file and self._by_file.setdefault(file, assignment).split != split:
            raise DataError(f"{self._path} line {line}: its file is in split {self._by_file[file].split} above")

    @property
    def description(self) -> str:
        """The rule in words."""
        return f"by the list {self._path.name} (SHA-256 {self._sha256[:16]})"

    def assign(self, file: PurePosixPath, patient: str) -> Assignment | None:
        """Place a file by the list."""
        parts = file.parts
        ends = ("/".join(parts[start:]) for start in range(len(parts)))
        found = next((self._by_file[end] for end in ends if end in self._by_file), None)
        found = found or self._by_patient.get(patient)
        if found is None:
            return None
        return Assignment(found.split, found.patient or patient, found.source)
