"""Events of an archive, one JSON line each; the last line about a series gives its standing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]
"""``time`` (s since 1970), ``event`` (``run``, ``started``, ``done``, ``failed``, ``retried``, ``end``) and what goes with it."""

OUTCOMES = ("done", "failed")


class EventLog:
    """Appends events; a line that a killed run left unfinished is closed first.

    Args:
        path: File to append to.
    """

    def __init__(self, path: Path) -> None:
        torn = path.exists() and _is_torn(path)
        self._file: TextIO = path.open("a", buffering=1)
        if torn:
            self._file.write("\n")

    def add(self, event: str, **values: Any) -> Event:
        """Append an event and return it."""
        record = {"time": round(time.time(), 3), "event": event, **values}
        self._file.write(json.dumps(record) + "\n")
        return record

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_events(path: Path) -> Iterator[Event]:
    """All whole events, in order; none if there is no file."""
    if not path.exists():
        return
    with path.open() as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                continue  # torn by a kill


def last_outcomes(path: Path) -> dict[str, Event]:
    """Last outcome of each series, by its digest."""
    return {event["id"]: event for event in read_events(path) if event.get("event") in OUTCOMES}


def _is_torn(path: Path) -> bool:
    with path.open("rb") as file:
        if not file.seek(0, os.SEEK_END):
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
