"""Standing of an archive, series by series: planned, refused, done, failed or waiting, and with what figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from qdm_med.archive.events import last_outcomes
from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.manifest import PlannedSeries
from qdm_med.archive.receipt import Receipt, read_receipt
from qdm_med.errors import DataError

State = Literal["done", "failed", "refused", "waiting"]


@dataclass(frozen=True)
class Entry:
    """Standing of one series.

    Attributes:
        planned: Result of the scan.
        state: Its state.
        reason: Why it failed or is refused.
        receipt: Its record, if it is done.
    """

    planned: PlannedSeries
    state: State
    reason: str = ""
    receipt: Receipt | None = None


def entries(folder: ArchiveFolder) -> Iterator[Entry]:
    """Every series of the plan, in its order.

    Raises:
        DataError: If there is no plan.
    """
    outcomes = last_outcomes(folder.events)
    for series in folder.planned().series:
        yield _entry(series, folder, outcomes.get(series.id, {}).get("reason", ""))


def _entry(series: PlannedSeries, folder: ArchiveFolder, reason: str) -> Entry:
    if series.refused:
        return Entry(series, "refused", series.refused)
    out = folder.out / series.out
    try:
        receipt = read_receipt(out) if out.exists() else None
    except DataError as error:
        return Entry(series, "failed", str(error))
    if reason:
        return Entry(series, "failed", reason)
    return Entry(series, "done", receipt=receipt) if receipt else Entry(series, "waiting")


def kind_of(reason: str) -> str:
    """Reduce a reason to its kind: paths and numbers are left out.

    >>> kind_of("/a/b/7.dcm: RescaleSlope 0.0: HU cannot be computed")
    'RescaleSlope #: HU cannot be computed'
    """
    head, separator, rest = reason.partition(": ")
    text = rest if separator and ("/" in head or "." in head) else reason
    words = ("#" + word[-1] * (word[-1] in ":;,") if any(c.isdigit() for c in word) else word for word in text.split())
    return " ".join(words).replace("# #", "#")


def reasons(found: list[Entry]) -> list[tuple[str, int]]:
    """Count reasons by kind, the most frequent first."""
    return Counter(kind_of(one.reason) for one in found if one.reason).most_common()
