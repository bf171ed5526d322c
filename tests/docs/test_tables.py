"""Tables that repeat the code are the code's; every option and every column stands in them."""

from __future__ import annotations

import re

import pytest

from qdm_med.evaluation.columns import COLUMNS
from tests.docs.pages import INLINE_CODE, PAGES, ROOT, prose
from tools.docs_tables import EVERY, MARKED, TABLES, commands, table, with_tables

DOCS = sorted((ROOT / "docs").glob("*.md"))
OPTIONS = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
COMMANDS = {"": EVERY, **dict(commands())}
OF_OTHERS = {
    "--help",
    "--user",
    "--index-url",
    "--repeats",
    "--largest",
    "--rows",
    "--x",
    "--rdzv-conf",
    "--requeue",
    "--max-restarts",
}
"""Options of every command, of pip, Docker, Slurm, torchrun and our scripts, in prose."""


@pytest.mark.parametrize("page", DOCS, ids=lambda page: page.name)
def test_the_tables_are_those_of_the_code(page):
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, f"write the tables of {page.name} anew: python -m tools.docs_tables"


def test_every_table_stands_somewhere():
    found = [match["name"] for page in DOCS for match in MARKED.finditer(page.read_text(encoding="utf-8"))]
    assert sorted(found) == sorted(TABLES)


@pytest.mark.parametrize("name", COMMANDS, ids=lambda name: name or "qdm-med")
def test_every_option_has_help_and_stands_in_the_docs(name):
    title = f"qdm-med {name}" if name else "Before the command"
    section = OPTIONS.split(f"## {title}\n")[1].split("\n## ")[0]
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        spelt = parameter.opts if parameter.param_type_name == "option" else [parameter.name.upper()]
        for option in (*spelt, *parameter.secondary_opts):
            assert f"`{option}`" in section, f"{name}: {option} is not in docs/options.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_names_an_option_that_does_not_exist(page):
    known = {name for one in COMMANDS.values() for option in one.params for name in option.opts + option.secondary_opts}
    named = {word for code in INLINE_CODE.findall(prose(page)) for word in re.findall(r"(?<!\S)--[a-z][a-z-]+", code)}
    assert named - known - OF_OTHERS == set()


def test_every_command_of_groups_is_seen():
    assert {"upscale", "eval", "archive run"} <= COMMANDS.keys()


def test_every_column_stands_in_the_glossary():
    glossary = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8").split("## Glossary")[1]
    assert [name for name in COLUMNS if f"| `{name}` |" not in glossary] == []
    assert all(one.words for one in COLUMNS.values())


def test_what_would_end_a_cell_is_escaped():
    assert table(["a", "b"], [["1", "x|y"]]) == "| a | b |\n|---|---|\n| 1 | x\\|y |\n"


def test_a_table_that_is_not_the_codes_is_seen():
    page = "<!-- table: modes -->\n| `faithful` | 7 steps |\n<!-- end -->\n"
    assert "7 steps" not in with_tables(page)
    assert "`--mode faithful`" in with_tables(page)
