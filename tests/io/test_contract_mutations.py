"""Every rule of the contract of a derived series is watched: break it on purpose, and a test of it fails.

``RULES`` states the contract once more, from the standard and without the package's code. ``MUTATIONS`` breaks a good
derived series in one way each and names the rule, and the row of the outside checker, that must notice. Both stand, by
theme, in ``derived_contract``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr

from tests.io.derived_contract import files, grid_and_pixels, identity, kept, provenance
from tests.io.derived_contract.slices import Mutate, Mutations, Rule, Slice
from tests.io.derived_contract.source import SCALE, everything

CHECKER = Path(__file__).resolve().parents[3] / "shared" / "tools" / "check_derived.py"
THEMES = (kept, identity, provenance, grid_and_pixels, files)
RULES: dict[str, Rule] = {name: rule for theme in THEMES for name, rule in theme.RULES.items()}
MUTATIONS: Mutations = [mutation for theme in THEMES for mutation in theme.MUTATIONS]
NAMES = [f"{number}: {rule}" for number, (rule, _, _) in enumerate(MUTATIONS)]


@dataclass(frozen=True)
class Made:
    """The good series: its source folder and both sides, in the order of the slices."""

    source: Path
    sources: list[Dataset]
    derived: list[Dataset]

    def mutant(self, mutate: Mutate) -> list[Dataset]:
        series = copy.deepcopy(self.derived)
        with quiet():
            mutate(series)
        return series


@contextlib.contextmanager
def quiet():
    with warnings.catch_warnings(), pydicom.config.disable_value_validation():
        warnings.simplefilter("ignore")  # mutants break the standard on purpose
        yield


@pytest.fixture(scope="module")
def made(phantom_at, magnify, outputs, tmp_path_factory):
    source = phantom_at(tmp_path_factory.mktemp("mutants") / "in", bits=12, signed=True, intercept=0.0).write(
        everything
    )
    derived = outputs(magnify(source, source.parent / "out", SCALE))
    return Made(source, sorted(outputs(source), key=lambda ds: ds.InstanceNumber), derived)


def holds(rule: str, series: list[Dataset], sources: list[Dataset]) -> bool:
    """Whether a rule holds for every slice; what cannot be judged does not hold."""
    try:
        with quiet():
            pairs = [Slice(derived, source, series) for derived, source in zip(series, sources, strict=False)]
            return all(RULES[rule](pair) for pair in pairs)
    except (AttributeError, KeyError, ValueError, IndexError, TypeError):
        return False


@pytest.mark.parametrize("rule", RULES)
def test_a_derived_series_keeps_the_rule(made, rule):
    with quiet():
        assert all(
            RULES[rule](Slice(derived, source, made.derived))
            for derived, source in zip(made.derived, made.sources, strict=True)
        )


@pytest.mark.parametrize("number", range(len(MUTATIONS)), ids=NAMES)
def test_a_broken_rule_is_noticed(made, number):
    rule, mutate, _ = MUTATIONS[number]
    assert not holds(rule, made.mutant(mutate), made.sources)


def test_every_rule_has_been_broken():
    assert {rule for rule, _, _ in MUTATIONS} == RULES.keys()


@pytest.fixture(scope="module")
def failed_rows():
    """Rows of the outside checker that fail for a series."""
    spec = importlib.util.spec_from_file_location("check_derived", CHECKER)
    checker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(checker)

    def judge(source: Path, series: list[Dataset], folder: Path) -> list[str]:
        folder.mkdir()
        with quiet(), contextlib.redirect_stdout(io.StringIO()):
            for index, ds in enumerate(series):
                pydicom.dcmwrite(folder / f"{index:05d}.dcm", correct_ambiguous_vr(ds, True))
            _, rows = checker.run([str(source), str(folder), str(SCALE), "--no-dciodvfy"])
        assert len(rows) > 40
        return [name for name, passed in rows if not passed]

    return judge


@pytest.mark.shared
def test_the_outside_checker_finds_nothing_in_the_good_series(made, failed_rows, tmp_path):
    assert failed_rows(made.source, made.mutant(lambda series: None), tmp_path / "out") == []


@pytest.mark.shared
@pytest.mark.parametrize("number", [n for n, (_, _, row) in enumerate(MUTATIONS) if row], ids=lambda n: NAMES[n])
def test_the_outside_checker_notices_the_same_break(made, failed_rows, tmp_path, number):
    _, mutate, row = MUTATIONS[number]
    failed = failed_rows(made.source, made.mutant(mutate), tmp_path / "out")
    assert any(name.startswith(row) for name in failed), failed
