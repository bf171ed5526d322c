"""Write the tables of the documentation that repeat what the code says: options, columns, modes, HU a network unit, modules.

Usage: python -m tools.docs_tables

Each stands between ``<!-- table: NAME -->`` and ``<!-- end -->`` in a page of ``docs/``; ``tests/docs/test_tables.py`` holds
the pages to it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from qdm_med.cli.app import app
from qdm_med.evaluation.columns import COLUMNS, GROUP_WORDS, GROUPS, Column
from qdm_med.inference.options import DEFAULT_CONSISTENCY, DEFAULT_FUSION, DEFAULT_MODE, MODES
from qdm_med.intensity import AsinhRange, CompandedRange
from tools.house import ROOT, modules

DOCS = ROOT / "docs"

EVERY = typer.main.get_command(app)
"""``qdm-med`` itself, with the options of every command."""

MARKED = re.compile(r"(?<=<!-- table: )(?P<name>\w+)(?P<open> -->\n).*?(?=<!-- end -->)", re.DOTALL)

SENSES = {"high": "higher", "low": "lower", "zero": "0", "one": "1", "": ""}


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    r"""A Markdown table.

    >>> print(table(["a", "b"], [["1", "x|y"]]), end="")
    | a | b |
    |---|---|
    | 1 | x\|y |
    """
    titles = list(head)
    lines = [titles, ["---"] * len(titles), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    start = [f"| {' | '.join(line)} |" for line in lines]
    start[1] = start[1].replace(" ", "")
    return "\n".join(start) + "\n"


def commands(group: Any = None, parents: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command of the command line, those of groups included, by its words after ``qdm-med``."""
    for name, command in (group or EVERY).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*parents, name))
        else:
            yield " ".join((*parents, name)), command


def options_tables() -> str:
    """Lay out every command with its arguments and options as its help has them; options before any command come first."""
    return "\n".join(_command_section(name, command) for name, command in (("", EVERY), *commands()))


def _command_section(name: str, command: Any) -> str:
    rows = [(_spelt(one), _told(one)) for one in sorted(command.params, key=_panel)]
    what = " ".join(str(command.help).split())
    title = f"qdm-med {name}" if name else "Before the command"
    return f"## {title}\n\n{what}\n\n" + table(("option", "what it says"), rows)


def _panel(parameter: Any) -> str:
    """Options of one panel of the help stand together; those for every day, which have none, first."""
    return getattr(parameter, "rich_help_panel", None) or ""


def _spelt(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _told(parameter: Any) -> str:
    words = " ".join((parameter.help or "").split())
    if parameter.required:
        return f"{words} Required."
    default = parameter.default
    told = isinstance(default, bool) or default is None or callable(default) or "Default:" in words
    return words if told else f"{words} Default: {default}."


def columns_tables() -> str:
    """Lay out the columns of ``eval`` by table: name, best value, limit of its alarm, meaning."""
    parts = []
    for group in GROUPS:
        members = [one for one in COLUMNS.values() if one.group == group]
        rows = [(f"`{one.name}`", SENSES[one.sense], _limit(one), one.words) for one in members]
        words = GROUP_WORDS[group]
        parts.append(
            f"### {words[0].upper()}{words[1:]}\n\n" + table(("column", "best", "alarm outside", "what it is"), rows)
        )
    return "\n".join(parts)


def _limit(column: Column) -> str:
    if column.limit is None:
        return ""
    return f"{column.limit.low:g} to {column.limit.high:g}: {column.limit.meaning}"


def modes_table() -> str:
    """Lay out what each mode asks of the two embedded models; the default in bold."""
    purposes = sorted(MODES, reverse=True)  # the default model first
    names = list(MODES[purposes[0]])
    rows = [(f"`--mode {name}`", *(_mode(purpose, name) for purpose in purposes)) for name in names]
    agreement = ("`--consistency`, default", *(f"`{DEFAULT_CONSISTENCY[purpose]}`" for purpose in purposes))
    fusion = ("`--fusion`, default", *(f"`{DEFAULT_FUSION[purpose]}`" for purpose in purposes))
    return table(("", *(f"`{purpose}`" for purpose in purposes)), [*rows, agreement, fusion])


def _mode(purpose: Any, name: Any) -> str:
    mode = MODES[purpose][name]
    parts = [
        "the model's steps" if mode.steps is None else f"{mode.steps} step{'s' * (mode.steps > 1)}",
        "one sample" if mode.samples == 1 else f"mean of {mode.samples} samples",
        f"temperature {mode.temperature:g}",
    ]
    if mode.threshold is not None:
        parts.append(f"threshold {mode.threshold:g}")
    return ", ".join(parts) + (" **(default)**" if DEFAULT_MODE[purpose] == name else "")


def hu_table() -> str:
    """Lay out the worth of one network unit in HU, by tissue, in both embedded models' mappings."""
    tissues = {"lung": -850, "fat": -100, "soft tissue": 40, "contrast medium": 300, "spongy bone": 700, "cortex": 1200}
    rows = [
        (f"{name}, {hu} HU", f"{AsinhRange().hu_per_unit(hu):.0f} HU", f"{CompandedRange().hu_per_unit(hu):.0f} HU")
        for name, hu in tissues.items()
    ]
    return table(("one network unit is worth", "`clinical` (asinh)", "`benchmark` (companded)"), rows)


def modules_tables() -> str:
    """Lay out every module with the first sentence of its docstring, room by room."""
    rooms: dict[str, list[tuple[str, str]]] = {}
    for name, path in modules().items():
        _, *parts = name.split(".")
        if path.name != "__init__.py":
            rooms.setdefault(".".join(parts[:-1]), []).append((f"`{parts[-1]}`", _first_sentence(path)))
    return "\n".join(_room_section(room, rows) for room, rows in sorted(rooms.items()))


def _room_section(room: str, rows: list[tuple[str, str]]) -> str:
    folder = f"qdm_med/{room.replace('.', '/')}/".replace("//", "/")
    what = _first_sentence(ROOT / folder / "__init__.py")
    return f"## `{folder}`\n\n{what}\n\n" + table(("module", "what it holds"), rows)


def _first_sentence(path: Path) -> str:
    """First paragraph of a module's docstring, as Markdown."""
    words = " ".join((ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")[0].split())
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", words.replace("``", "`"))


TABLES: Mapping[str, Callable[[], str]] = {
    "options": options_tables,
    "columns": columns_tables,
    "modes": modes_table,
    "hu": hu_table,
    "modules": modules_tables,
}


def with_tables(page: str) -> str:
    """Replace the tables of a page by those that the code has now."""
    return MARKED.sub(lambda found: f"{found['name']}{found['open']}\n{TABLES[found['name']]()}\n", page)


def main() -> None:
    """Write every table into its page."""
    for path in sorted(DOCS.glob("*.md")):
        page = path.read_text(encoding="utf-8")
        if (written := with_tables(page)) != page:
            path.write_text(written, encoding="utf-8")
            print(f"wrote the tables of {path.name}")


if __name__ == "__main__":
    main()
