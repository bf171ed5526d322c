"""Fixtures shared by the whole suite."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main

from qdm_med.cli import app

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs data that only the developers' machines have."""
    if not (SHARED / "data").is_dir():
        skip = pytest.mark.skip(reason="../shared/data is absent: real CT is not part of the project")
        for item in items:
            if "shared" in item.keywords:
                item.add_marker(skip)


@pytest.fixture(autouse=True, scope="session")
def _commands_are_parsed_once():
    """Typer makes all commands anew from their signatures in every call: a tenth of a second, hundreds of times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def golden():
    """Read a golden file as tensors (text entries are left out)."""

    def read(name: str) -> dict[str, torch.Tensor]:
        with np.load(ROOT / "tests" / "golden" / f"{name}.npz") as file:
            return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fiu"}

    return read


@pytest.fixture(scope="session")
def golden_path() -> Path:
    return ROOT / "tests" / "golden"


@pytest.fixture
def run(monkeypatch, capsys):
    """Run a command in this process: exit code, stdout, stderr."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["qdm-med", *map(str, arguments)])
        try:
            app.main()
            code = 0
        except SystemExit as stopped:
            code = stopped.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
