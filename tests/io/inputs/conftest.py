"""Run ``qdm-med upscale`` on an input that must be met, and watch everything around it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import io
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pydicom.config
import pytest

from qdm_med.cli import app
from qdm_med.inference.runs import scales

CHECKER = Path(__file__).resolve().parents[4] / "shared" / "tools" / "check_derived.py"
SCALE = 4
NETWORK_ROWS = ("--no-dciodvfy", "--hu-mae-tol", "1e9", "--shift-tol", "1e9")
"""How far single pixels may stray says how good a network is on steps of 2500 HU; the mean HU has to hold."""


@pytest.fixture(scope="session")
def failed_rows() -> Callable[..., list[str]] | None:
    """Rows of the outside checker that fail for an output; ``None`` where the checker is absent."""
    if not CHECKER.is_file():
        return None
    spec = importlib.util.spec_from_file_location("check_derived", CHECKER)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)

    def judge(source: Path, out: Path, *options: str) -> list[str]:
        report = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stdout(report):
            warnings.simplefilter("ignore")  # some inputs break the standard on purpose
            with pydicom.config.disable_value_validation():
                _, rows = checker.run([str(source), str(out), str(SCALE), *NETWORK_ROWS, *options])
        assert len(rows) > 40
        failed = [name for name, passed in rows if not passed]
        return [line for line in report.getvalue().splitlines() if any(name in line for name in failed)]

    return judge


def snapshot(root: Path, out: Path) -> dict[str, str]:
    """Every path below ``root`` that is not the output, with a digest of what it holds; links as links."""
    return {
        str(path.relative_to(root)): _digest(path)
        for path in root.rglob("*")
        if path != out and out not in path.parents
    }


def _digest(path: Path) -> str:
    if path.is_symlink():
        return f"link to {path.readlink()}"
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"


@dataclass(frozen=True)
class Outcome:
    """What a run left: its exit code, its two streams, and the derived slices in the order of their names."""

    code: int
    out: str
    err: str
    place: Path
    written: bool

    def slices(self) -> list[pydicom.FileDataset]:
        return [pydicom.dcmread(path) for path in sorted(self.place.iterdir())]


@pytest.fixture(autouse=True, scope="session")
def _models_are_loaded_once():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scales, "load_checkpoint", functools.cache(scales.load_checkpoint))
        yield


@pytest.fixture
def attempt(tmp_path, monkeypatch, capfd, caplog):
    """Run the command; whatever it does, inputs stay byte-identical and nobody reads the patient's name."""

    def attempt(source: Path, *options: object, out: Path | None = None) -> Outcome:
        place = out or tmp_path / "out"
        before, there = snapshot(tmp_path, place), snapshot(place, tmp_path / "none") if place.is_dir() else None
        arguments = ("upscale", "--series", source, "--out", place, "--steps", 1, "--device", "cpu", *options)
        monkeypatch.setattr(sys, "argv", ["qdm-med", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            app.main()
        except SystemExit as stopped:
            code = int(stopped.code or 0)
        told = capfd.readouterr()
        assert snapshot(tmp_path, place) == before
        assert not any(name in (told.out + told.err + caplog.text).upper() for name in ("SECRET", "MÜLLER", "YAMADA"))
        now = snapshot(place, tmp_path / "none") if place.is_dir() else None
        return Outcome(code, told.out, told.err, place, now != there)

    return attempt


@pytest.fixture
def succeeds(attempt, failed_rows):
    """The input is super-resolved, and the checker, where there is one, finds nothing."""

    def succeeds(source: Path, *options: object, told: str = "", slices: int = 3, checks=(), **where) -> Outcome:
        outcome = attempt(source, *options, **where)
        assert (outcome.code, outcome.err) == (0, "")
        assert told in outcome.out
        derived = outcome.slices()
        assert len(derived) == slices
        assert len({each.SeriesInstanceUID for each in derived}) == 1
        if failed_rows is not None:
            assert failed_rows(source, outcome.place, *checks) == []
        return outcome

    return succeeds


@pytest.fixture
def refused(attempt):
    """The input is refused in one line that names what is wrong; the output is as it was."""

    def refused(source: Path, *options: object, told: str, **where) -> Outcome:
        outcome = attempt(source, *options, **where)
        assert (outcome.code, outcome.out) == (1, "")
        assert outcome.err.count("\n") == 1
        assert "Traceback" not in outcome.err
        assert told in outcome.err
        assert not outcome.written
        return outcome

    return refused
