"""The house stays readable: short functions and files, few arguments, every type told, no circle of imports."""

from __future__ import annotations

import pytest

from qdm_med.evaluation.columns import COLUMNS
from tools.house import cycles, functions, imports, modules

FOUND = modules()
FUNCTIONS = functions(FOUND)
OUTSIDE = [one for one in FUNCTIONS if one.room != "cli"]  # an option of a command is an argument, and has a help text


def told(found):
    return [f"{one.module}.{one.name}: {one.lines} lines, {one.parameters} arguments" for one in found]


def test_functions_have_eight_lines_on_the_average():
    assert sum(one.lines for one in FUNCTIONS) / len(FUNCTIONS) <= 8


def test_no_function_has_more_than_fifty_lines():
    assert not told(one for one in OUTSIDE if one.lines > 50)


def test_no_function_takes_more_than_eight_arguments():
    assert not told(one for one in OUTSIDE if one.parameters > 8)


def test_every_argument_and_result_has_a_type():
    assert not told(one for one in FUNCTIONS if not one.typed)


def test_no_file_has_more_than_three_hundred_lines():
    assert not {name for name, path in FOUND.items() if len(path.read_text().splitlines()) > 300}


def test_no_modules_import_each_other():
    assert cycles(imports(FOUND)) == []


def test_the_counts_see_what_they_are_to_see(tmp_path):
    package = tmp_path / "house"
    package.mkdir()
    (package / "a.py").write_text(
        "from house.b import b\n\n\nclass A:\n    def f(self, x: int, *rest: int, y=1) -> int:\n"
        '        """Two lines\n        of words."""\n        return b(x)\n'
    )
    (package / "b.py").write_text("def b(x: int) -> int:\n    from house import a\n\n    return a.A().f(x)\n")
    (package / "c.py").write_text("from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    from house import a\n")
    found = modules(package)
    f, b = functions(found)
    assert (f.name, f.lines, f.parameters, f.typed) == ("f", 2, 3, False)
    assert (b.lines, b.parameters, b.typed) == (4, 1, True)
    assert cycles(imports(found)) == [["house.a", "house.b"]]
    assert imports(found)["house.c"] == set()


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"a": {"b"}, "b": {"c"}, "c": set()}, []),
        ({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}, [["a", "b", "c"]]),
        ({"a": {"b", "c"}, "b": {"a"}, "c": {"d"}, "d": {"c"}}, [["c", "d"], ["a", "b"]]),
    ],
)
def test_circles_are_found(graph, expected):
    assert sorted(cycles(graph)) == sorted(expected)


# To add X, touch Y: what is said in the documentation's table, as far as the code can show it.


def test_a_metric_is_computed_in_one_place_and_described_in_another():
    names = [
        name
        for name, one in COLUMNS.items()
        if one.group in ("fidelity", "consistency", "uncertainty") and one.in_tables
    ]
    assert len(names) > 15
    allowed = {"qdm_med.evaluation.columns", "qdm_med.evaluation.scoring"}
    for name in names:
        users = {module for module, path in FOUND.items() if f'"{name}"' in path.read_text()}
        assert users <= allowed, name


@pytest.mark.parametrize("family", ["real_esrgan", "scanner", "clinical"])
def test_a_family_of_degradations_is_its_own_file_and_a_line_in_the_one_that_offers_them_all(family):
    offered = "qdm_med.data.degradation.degrade"
    ct = {module for module in FOUND if not module.startswith(("qdm_med.natural.", "qdm_med.data.degradation."))}
    users = {module for module, used in imports(FOUND).items() if f"qdm_med.data.degradation.{family}" in used}
    assert offered in users
    experiments = {"qdm_med.training.pairs"} if family == "clinical" else set()  # where its ranges can be configured
    assert users & ct <= experiments


def test_a_benchmark_of_pairs_is_a_line_of_one_table():
    users = {module for module, path in FOUND.items() if '"med-sr4"' in path.read_text()}
    assert users <= {"qdm_med.evaluation.benchmarks", "qdm_med.cli.compare"}
