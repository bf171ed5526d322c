"""Count what makes the house readable: lengths of functions and files, numbers of arguments, imports.

Usage: python -m tools.house

The counts come from the code itself; ``tests/test_house.py`` holds them against their limits.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "qdm_med"


@dataclass(frozen=True)
class Function:
    """A function or method.

    Attributes:
        module: Dotted name of its module.
        name: Its name.
        lines: Lines from ``def`` to the end, its docstring not counted.
        parameters: Arguments that a caller may give, ``self`` and ``cls`` not counted.
        typed: Whether every argument and the result have a type.
    """

    module: str
    name: str
    lines: int
    parameters: int
    typed: bool

    @property
    def room(self) -> str:
        """The room of the package that it stands in."""
        return self.module.split(".")[1] if "." in self.module else ""


def modules(package: Path = ROOT / PACKAGE) -> dict[str, Path]:
    """Every module by its dotted name; a package by its own."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def functions(found: dict[str, Path]) -> list[Function]:
    """Every function and method of some modules, those inside functions included."""
    return [
        _function(module, node)
        for module, path in found.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def _function(module: str, node: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node) is not None:
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    given += [one for one in (node.args.vararg, node.args.kwarg) if one]
    own = [one for one in given if one.arg not in ("self", "cls")]
    typed = node.returns is not None and all(one.annotation is not None for one in own)
    return Function(module, node.name, lines, len(own), typed)


def imports(found: dict[str, Path]) -> dict[str, set[str]]:
    """Modules that each module imports from its own package, inside functions too; imports for types alone are left out."""
    return {
        module: set(_imported(ast.parse(path.read_text(encoding="utf-8")), found)) for module, path in found.items()
    }


def _imported(tree: ast.AST, found: dict[str, Path]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in (f"{node.module}.{alias.name}" for alias in node.names):
                yield from [one for one in (name, node.module) if one in found][:1]
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in found)
        yield from _imported(node, found)


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    reached = {module: _reached(graph, module) for module in graph}
    circles = {tuple(sorted(one for one in reached[m] if m in reached[one])) for m in graph if m in reached[m]}
    return sorted(map(list, circles))


def _reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Modules that an import of ``start`` leads to; itself only if it lies in a circle."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def main() -> None:
    """Print the counts, and the longest of each."""
    found = modules()
    every = functions(found)
    outside = [one for one in every if one.room != "cli"]
    files = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in found.items()}
    print(f"{len(files)} files of {sum(files.values())} lines, the longest {max(files.values())}")
    print(f"{len(every)} functions of {sum(one.lines for one in every) / len(every):.2f} lines on the average")
    for title, key in (("longest", "lines"), ("most arguments", "parameters")):
        for one in sorted(outside, key=lambda each: -getattr(each, key))[:5]:
            print(f"{title} outside cli: {getattr(one, key)}, {one.module}.{one.name}")
    print(f"functions without all their types: {sum(not one.typed for one in every)}")
    print(f"modules that import each other: {cycles(imports(found)) or 'none'}")


if __name__ == "__main__":
    main()
