"""Receipt beside every finished series: from what, with what and to what it was made."""

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
    """The record of a finished series, as it is read back.

    Attributes:
        record: All of it, in JSON types.
    """

    record: dict[str, Any]

    @property
    def key(self) -> str:
        """Key of the settings."""
        return str(self.record["settings_key"])

    @property
    def inputs(self) -> tuple[InputFile, ...]:
        """The source's files."""
        return tuple(InputFile(**each) for each in self.record["inputs"])

    @property
    def slices(self) -> int:
        """Slices of the output."""
        return int(self.record["slices"])

    def made_from(self, files: int, size: int, newest_ns: int) -> bool:
        """Whether sizes and times of the source are what they were when the series was made."""
        inputs = self.inputs
        now = (files, size, newest_ns)
        return (len(inputs), sum(one.bytes for one in inputs), max(one.modified_ns for one in inputs)) == now


def receipt_path(out: Path) -> Path:
    """Where the receipt of an output lies: beside it.

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
    """Make a receipt appear beside its output."""
    write_json(receipt_path(out), record)
    return Receipt(record)


def write_json(path: Path, record: Any) -> None:
    """Make a JSON file appear whole."""
    write_whole(path, lambda file: file.write((json.dumps(record, indent=1) + "\n").encode()))


def hashed_inputs(files: Sequence[Path], tree: Path) -> tuple[InputFile, ...]:
    """Size, time and hash of every source file."""
    return tuple(_hashed(path, tree) for path in sorted(set(files)))


def _hashed(path: Path, tree: Path) -> InputFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    stat = path.stat()
    return InputFile(_below(path, tree), stat.st_size, stat.st_mtime_ns, digest)


def _below(path: Path, tree: Path) -> str:
    """A path below the tree, whichever links lead there; its name alone if it lies elsewhere."""
    for root in (tree, tree.resolve()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return path.name
