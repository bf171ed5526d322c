"""Log of a run, one JSON object a line: everything that is drawn or told of the run is read from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qdm_med.files import write_text

LOG_FILE = "log.jsonl"


class RunLog:
    """Log file with lines ``{"step": ..., ...}``: losses of a step or, under ``"validation"``, its figures."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / LOG_FILE

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line."""
        with self._path.open("a") as log:
            log.write(json.dumps(line) + "\n")

    def lines(self) -> list[dict[str, Any]]:
        """Every whole line; a killed run may leave a part of one."""
        if not self._path.is_file():
            return []
        return [json.loads(line) for line in self._path.read_text().split("\n")[:-1]]

    def forget_after(self, step: int) -> None:
        """Drop lines that a killed run logged after its last state: their steps are trained again."""
        if self._path.is_file():
            kept = [line for line in self.lines() if line["step"] <= step]
            write_text(self._path, "".join(f"{json.dumps(line)}\n" for line in kept))
