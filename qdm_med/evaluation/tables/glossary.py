"""Meaning of the tables' columns."""

from __future__ import annotations

from collections.abc import Sequence

from qdm_med.evaluation.columns import COLUMNS, GROUP_WORDS, GROUPS, Column
from qdm_med.evaluation.tables.table import Table

ALARMS = (
    "Alarms hold against interpolation of the same input, too: a value outside its limits that interpolation reaches on the same "
    "slice is no alarm."
)


BEST = {"high": "higher is better", "low": "lower is better", "zero": "0 is best", "one": "1 is best", "": ""}


def explained(column: Column) -> str:
    """Explain in a line what a column is, which value is best, and from where it alarms.

    >>> explained(COLUMNS["bias_fat_hu"])
    "mean HU inside fat less the truth's, borders left out; 0 is best; alarm outside -4 to 4: HU of fat are shifted"
    """
    limit = column.limit
    alarm = f"alarm outside {limit.low:g} to {limit.high:g}: {limit.meaning}" if limit else ""
    return "; ".join(part for part in (column.words, BEST[column.sense], alarm) if part)


def glossary() -> str:
    """Every column of the tables and its meaning, by table."""
    lines = [ALARMS]
    for group in GROUPS:
        members = [one for one in COLUMNS.values() if one.group == group and one.in_tables]
        lines += ["", f"{GROUP_WORDS[group]}:", *(f"  {one.name} {one.arrow}: {explained(one)}" for one in members)]
    return "\n".join(lines)


def glossary_of(tables: Sequence[Table]) -> list[tuple[Column, str]]:
    """Columns that the rows of some tables are about, explained, each once, in their order."""
    return [
        (COLUMNS[name], explained(COLUMNS[name]))
        for name in dict.fromkeys(name for table in tables for name in table.terms if name)
    ]
