"""Random keys: two uses or places never share their draws."""

from __future__ import annotations

import ast
import itertools
from pathlib import Path
from typing import get_args

import numpy as np

from qdm_med.keys import Use, keyed, rng, slice_degradation

PACKAGE = Path(__file__).resolve().parent.parent / "qdm_med"


def test_no_two_keys_of_a_training_draw_the_same():
    places = [(), (0,), (1,), (2,), (0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (1, 0, 0), (11,), (1, 11), (11, 1)]
    keys = itertools.product((0, 1, 2), get_args(Use), places)
    drawn = [rng(seed, use, *place).integers(2**63) for seed, use, place in keys]
    assert len(set(drawn)) == len(drawn) == 3 * len(get_args(Use)) * len(places)


def test_numpys_own_keys_collide_where_ours_do_not():
    first, second = (np.random.default_rng(key).integers(2**63) for key in ([7, 3], [7, 3, 0]))
    assert first == second
    assert rng(7, "scale", 3).integers(2**63) != rng(7, "scale", 3, 0).integers(2**63)


def test_a_key_draws_the_same_on_every_machine():
    assert rng(0, "crop", 5, 2).integers(10**6, size=3).tolist() == [229705, 967214, 721309]
    assert keyed("0", "1.2.3", "0.000", "0", "1", "0", "0").integers(10**6, size=2).tolist() == [947477, 371038]


def test_the_degradation_of_a_benchmarks_slice_stays_what_it_was():
    own, first = slice_degradation(3, 4, "ab" * 32), np.random.default_rng([3, 4, int("ab" * 8, 16)])
    assert own.integers(2**63, size=4).tolist() == first.integers(2**63, size=4).tolist()


def test_keys_are_made_in_one_file():
    makers = {"default_rng", "SeedSequence", "Philox", "PCG64", "manual_seed"}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        assert path.name == "keys.py" or not names & makers, path
