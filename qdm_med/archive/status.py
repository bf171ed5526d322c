"""``archive status``: progress of a run, read from what it writes to disk once a second."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

from qdm_med.archive.books import entries
from qdm_med.archive.events import Event, read_events
from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.tally import Running, Snapshot

LOOK_SECONDS = 1.0
"""Time between two looks at a run that lasts."""


def read_status(folder: ArchiveFolder) -> Snapshot:
    """Progress of the run that has the archive, or the standing of all series if none has it.

    A run that was killed leaves the state ``"stopped"``; what is done is then counted from the receipts.

    Raises:
        DataError: If nothing was planned yet.
    """
    snapshot = _last(folder)
    if snapshot is not None and (folder.is_owned or snapshot.state == "ended"):
        return snapshot
    found = list(entries(folder))
    states = [one.state for one in found]
    accepted = [one for one in found if one.state != "refused"]
    return Snapshot(
        updated=round(time.time(), 3),
        state="planning" if folder.is_owned else "planned" if snapshot is None else "stopped",
        series=len(accepted),
        refused=states.count("refused"),
        done=states.count("done"),
        failed=states.count("failed"),
        slices=sum(one.planned.slices for one in accepted),
        slices_done=sum(one.planned.slices for one in accepted if one.state == "done"),
        slices_per_second=0.0,
        active_leaves=0.0,
        seconds_left=None,
        workers=0,
    )


def _last(folder: ArchiveFolder) -> Snapshot | None:
    try:
        record: dict[str, Any] = json.loads(folder.status.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return Snapshot(**{**record, "running": tuple(Running(**one) for one in record["running"])})


def watched(folder: ArchiveFolder) -> Iterator[Snapshot]:
    """Progress of the run, again and again, until it has left the archive."""
    while folder.is_owned:
        yield read_status(folder)
        time.sleep(LOOK_SECONDS)
    yield read_status(folder)


def events(folder: ArchiveFolder, *, follow: bool) -> Iterator[Event]:
    """Every event so far; with ``follow`` also those to come, until no run has the archive."""
    told = 0
    while True:
        lasts = follow and folder.is_owned  # asked first: what is written before the end must be told
        found = list(read_events(folder.events))
        yield from found[told:]
        told = len(found)
        if not lasts:
            return
        time.sleep(LOOK_SECONDS)
