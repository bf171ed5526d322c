"""Receipt of a finished series: its source, its settings, and the checksums of its output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdm_med.errors import DataError
from qdm_med.files import write_whole

SUFFIX = ".receipt.json"


@dataclass(frozen=True)
class InputFile:
    """One file that a series was read from.

    Attributes:
        path: Below the tree.
        bytes: Its size.
        modified_ns: When it was changed last.
        sha256: Hash of its content.
    """

    path: str
    bytes: int
    modified_ns: int
    sha256: str


@dataclass(frozen=True)
class Receipt:
    """Record of a finished series, as read back.

    Attributes:
        record: All of it, in JSON types.
    """

    record: dict[str, Any]

    @property
    def key(self) -> str:
        """Key of the settings that the series was made with."""
        return str(self.record["settings_key"])

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """Files of the source."""
        return tuple(InputFile(**each) for each in self.record["inputs"])

    @property
    def slices(self) -> int:
        """Number of slices in the output."""
        return int(self.record["slices"])

    def made_from(self, files: int, size: int, newest_ns: int) -> bool:
        """Whether the source has the sizes and times that it had when the series was made."""
        inputs = self.inputs
        now = (files, size, newest_ns)
        return (len(inputs), sum(one.bytes for one in inputs), max(one.modified_ns for one in inputs)) == now


def receipt_path(out: Path) -> Path:
    """Path of an output's receipt, beside the output.

    >>> receipt_path(Path("fine/head-srx4.nii.gz")).name
    'head-srx4.nii.gz.receipt.json'
    """
    return out.with_name(out.name + SUFFIX)


def read_receipt(out: Path) -> Receipt | None:
    """Read the receipt of an output; ``None`` if there is none.

    Raises:
        DataError: If there is something else in its place.
    """
    path = receipt_path(out)
    try:
        record = json.loads(path.read_text())
        receipt = Receipt(record)
        _ = receipt.key, receipt.inputs, receipt.slices
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise DataError(f"{path}: is no receipt of this tool ({type(error).__name__}); move it away") from None
    return receipt


def write_receipt(out: Path, record: dict[str, Any]) -> Receipt:
    """Write the receipt of an output, whole or not at all."""
    write_json(receipt_path(out), record)
    return Receipt(record)


def write_json(path: Path, record: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_whole(path, lambda file: file.write((json.dumps(record, indent=1) + "\n").encode()))


def hashed_inputs(files: Sequence[Path], tree: Path) -> tuple[InputFile, ...]:
    """Record size, time and hash of every source file."""
    return tuple(_hashed(path, tree) for path in sorted(set(files)))


def _hashed(path: Path, tree: Path) -> InputFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    return InputFile(_below(path, tree), stat.st_size, stat.st_mtime_ns, digest)


def _below(path: Path, tree: Path) -> str:
    """Shorten a path to its part below the tree, whichever links lead there, or to its name if it lies elsewhere."""
    for root in (tree, tree.resolve()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
