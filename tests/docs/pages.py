"""The pages of the documentation: their fenced blocks, links, headings and the paths that they name."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
OWN_FOLDERS = ("benchmarks/", "configs/", "examples/", "qdm_med/", "tests/", "tools/", "docs/")


class Block(NamedTuple):
    """A fenced block: where it stands, its language and text."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(*languages: str) -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match["language"] in languages:
                found.append(Block(page, text.count("\n", 0, match.start()) + 1, match["language"], match["text"]))
    return found


def command_lines(block: Block) -> list[list[str]]:
    """The words of every line of a shell block; comments are dropped and continued lines joined."""
    joined = block.text.replace("\\\n", " ")
    return [words for line in joined.splitlines() if (words := shlex.split(line, comments=True))]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub and MkDocs make them."""
    titles = HEADING.findall(prose(page))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def links(page: Path) -> list[str]:
    """Targets of a page's links that lie in the repository."""
    text = INLINE_CODE.sub("", prose(page))
    return [target for target in LINK.findall(text) if not target.startswith(("https:", "http:", "mailto:"))]


def named_paths(page: Path) -> set[str]:
    """Files and folders of the repository that a page names as code, those with a pattern in them left out."""
    words = {word for code in INLINE_CODE.findall(page.read_text(encoding="utf-8")) for word in code.split()}
    return {word.rstrip(",;") for word in words if word.startswith(OWN_FOLDERS) and not set(word) & set("{*<")}
