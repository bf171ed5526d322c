"""The plan of an archive: one line a series, made by one scan and read by every later command."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from qdm_med.errors import DataError
from qdm_med.files import write_whole
from qdm_med.serialise import from_mapping, to_mapping

FORMAT = "qdm-med-archive/1"


@dataclass(frozen=True)
class PlannedSeries:
    """One series of a tree, or files that belong to none.

    Attributes:
        id: Digest that stands for the series whatever lies beside it; nothing in it names the patient.
        source: Folder or file below the tree.
        member: Path within ``source`` if that is a zip archive and the series is a volume file in it.
        series_uid: SeriesInstanceUID of a DICOM series; empty otherwise.
        out: Folder or file below the output that it becomes.
        slices: Slices.
        shape: Rows and columns.
        spacing_mm: Distance between rows and between columns.
        matrix: Rows and columns that it is averaged to; ``None``: it stays as it is magnified.
        input_files: Files that it is read from.
        input_bytes: Their bytes.
        newest_ns: When the last of them was changed, in ns since 1970.
        output_bytes: Pixels of the output, uncompressed.
        memory_bytes: Upper bound of the memory that it takes.
        seconds: Estimated time of one worker.
        refused: Why it cannot be super-resolved; empty if it can.
    """

    id: str
    source: str
    member: str = ""
    series_uid: str = ""
    out: str = ""
    slices: int = 0
    shape: tuple[int, int] = (0, 0)
    spacing_mm: tuple[float, float] = (0.0, 0.0)
    matrix: tuple[int, int] | None = None
    input_files: int = 0
    input_bytes: int = 0
    newest_ns: int = 0
    output_bytes: int = 0
    memory_bytes: int = 0
    seconds: float = 0.0
    refused: str = ""


@dataclass(frozen=True)
class Manifest:
    """Result of one scan of a tree.

    Attributes:
        tree: The tree, absolute.
        scanned: When, in ISO 8601.
        series: All series, refused ones too.
        asked: Settings that it depends on, by name; none in plans of earlier versions.
    """

    tree: Path
    scanned: str
    series: tuple[PlannedSeries, ...]
    asked: Mapping[str, Any] = field(default_factory=dict)

    @property
    def accepted(self) -> tuple[PlannedSeries, ...]:
        """Series that can be super-resolved, in their order."""
        return tuple(one for one in self.series if not one.refused)

    def is_asked_with(self, planning: Mapping[str, Any]) -> bool:
        """Whether it was made with these settings, as far as it says."""
        return not self.asked or dict(self.asked) == dict(planning)

    def write(self, path: Path) -> None:
        """Write the manifest to ``path``, whole or not at all."""
        about = {"tree": str(self.tree), "scanned": self.scanned, "asked": dict(self.asked)}
        head = {"format": FORMAT, "series": len(self.series), **about}
        lines = (json.dumps(record) + "\n" for record in (head, *map(_without_defaults, self.series)))
        write_whole(path, lambda file: file.writelines(line.encode() for line in lines))

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest.

        Raises:
            DataError: If it is missing or none.
        """
        try:
            with path.open() as file:
                head = json.loads(next(file))
                series = tuple(_series(file))
        except FileNotFoundError:
            raise DataError(f"{path}: no such manifest; make it with `qdm-med archive plan TREE --out OUT`") from None
        except (ValueError, StopIteration, OSError) as error:
            raise DataError(f"{path}: no manifest ({error}); make it again with `qdm-med archive plan`") from None
        if head.get("format") != FORMAT or head.get("series") != len(series):
            raise DataError(f"{path}: no whole manifest of format {FORMAT}; make it again with `qdm-med archive plan`")
        return cls(Path(head["tree"]), head["scanned"], series, head.get("asked", {}))


def _series(lines: Iterable[str]) -> Iterator[PlannedSeries]:
    return (from_mapping(PlannedSeries, json.loads(line)) for line in lines)


def _without_defaults(series: PlannedSeries) -> dict[str, Any]:
    """Leave out fields that have their default: a manifest may have a million lines."""
    defaults = {one.name: one.default for one in fields(series)}
    record = {one.name: getattr(series, one.name) for one in fields(series)}
    return {name: to_mapping(value) for name, value in record.items() if value != defaults[name]}
