"""The house keeps its shape: arrows point only towards the start of the layer list."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "qdm_med"

LAYERS = [
    ["_version", "errors"],
    ["device", "distributed", "serialise", "files", "keys", "resample", "volume", "intensity", "uncertainty"],
    ["io"],
    ["data"],
    ["models"],
    ["diffusion"],
    ["checkpoints", "weights"],
    ["inference"],
    ["archive", "pacs"],
    ["evaluation"],
    ["training"],
    ["natural"],  # over evaluation and training, so that neither can know of it
    ["description"],
    ["cli"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
FILES = sorted(PACKAGE.rglob("*.py"))


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


@functools.cache
def imports(path: Path, *, module_level_only: bool = False) -> frozenset[str]:
    tree = parsed(path)
    nodes = tree.body if module_level_only else list(ast.walk(tree))
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_towards_the_start_of_the_layer_list(path):
    if path.name == "__init__.py" and path.parent == PACKAGE:
        return  # the front door may look into every room
    own = room_of(path)
    assert own in LEVEL, f"{own} has no place in the layer list"
    for module in imports(path):
        if module.startswith("qdm_med."):
            target = module.split(".")[1]
            assert LEVEL[target] <= LEVEL[own], f"{own} must not import {target}"


@pytest.mark.parametrize(
    ("package", "rooms"),
    [
        ("pydicom", {"io", "pacs"}),
        ("highdicom", {"io"}),
        ("nibabel", {"io"}),
        ("SimpleITK", {"io", "natural"}),
        ("pynetdicom", {"pacs"}),
        ("dicomweb_client", {"pacs"}),
        ("typer", {"cli"}),
        ("dask", {"archive"}),
        ("distributed", {"archive"}),
        ("dask_jobqueue", {"archive"}),
        ("torch.distributed", {"distributed"}),
    ],
)
def test_a_package_is_known_to_its_own_room_only(package, rooms):
    users = {room_of(path) for path in FILES if any(f"{name}.".startswith(f"{package}.") for name in imports(path))}
    assert users <= rooms


def test_models_and_diffusion_see_tensors_only():
    for path in FILES:
        if room_of(path) in ("models", "diffusion"):
            rooms = {name.split(".")[1] for name in imports(path) if name.startswith("qdm_med.")}
            assert rooms <= {"models", "diffusion", "errors", "keys", "resample"}, path
        if room_of(path) == "diffusion":
            assert not any(name.startswith("qdm_med.models") for name in imports(path)), path


def test_files_that_must_start_fast_do_not_import_torch_at_module_level():
    for path in FILES:
        if room_of(path) in ("cli", "io"):
            heavy = {name for name in imports(path, module_level_only=True) if name.split(".")[0] in ("torch", "monai")}
            assert not heavy, path


def test_no_file_holds_two_jobs():
    for path in FILES:
        assert path.name != "utils.py"
        assert len(path.read_text().splitlines()) <= 300, path


def first_words(path: Path) -> dict[str, str]:
    """First word of every docstring, by what it belongs to."""
    nodes = [node for node in ast.walk(parsed(path)) if isinstance(node, DESCRIBED)]
    described = [(getattr(node, "name", "the module"), ast.get_docstring(node)) for node in nodes]
    return {name: words.split()[0] for name, words in described if words}


DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def test_docstrings_begin_with_a_noun_or_a_verb():
    questions = {"What", "How", "Which", "Where", "Why", "Of", "As", "So"}
    odd = [(path.name, name) for path in FILES for name, word in first_words(path).items() if word in questions]
    assert not odd, "say what it is or does: begin with a noun or a verb, as in 'Plan one slice: tiles, leaves, box.'"
