"""The verdict says what the tables say, and nothing that the number of patients does not allow."""

from __future__ import annotations

import pytest

from qdm_med.evaluation.columns import COLUMNS, GROUP_WORDS
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.glossary import glossary, glossary_of
from qdm_med.evaluation.tables.table import Table, result_tables
from qdm_med.evaluation.tables.verdict import verdict


def rows(errors, *, patients=6, bias=0.5, alarm=0.0):
    """Bicubic's error in lung is 10 HU everywhere; ours differs by ``errors``, a patient one."""
    found = []
    for number in range(patients):
        for method, gain in (("bicubic", 0.0), ("ours", errors[number % len(errors)])):
            scores = {"lung_mae_hu": 10.0 + gain, "bias_lung_hu": bias, "interpolated_bias_lung_hu": 0.0}
            scores |= {"bone_mae_hu": float("nan"), "unsupported_patches": alarm if method == "ours" else 0.0}
            found.append(SliceScore(method, 4, f"p{number}", str(number), 0.1, scores))
    return found


def told(*args, **options):
    (paragraph,) = verdict(rows(*args, **options), "bicubic")
    heading, *lines = paragraph.splitlines()
    assert heading == "ours, held against bicubic:"
    return lines


def test_a_smaller_error_of_every_patient_is_nearer_to_the_truth():
    lung, alarm = told([-2.0, -1.0])
    assert lung == "- lung: error 8.5 HU, 15% less than 10.0: nearer to the truth; mean HU right"
    assert alarm == "- no alarm on 6 slices"


@pytest.mark.parametrize(
    ("errors", "patients", "words"),
    [
        ([1.0, 2.0], 6, "15% more than 10.0: further from the truth"),
        ([-2.0, 2.0], 6, "no difference that is certain"),
        ([-2.0], 2, "too few patients (2) to tell"),
        ([-2.0], 1, "too few patients (1) to tell"),
    ],
)
def test_words_follow_from_the_interval_over_patients(errors, patients, words):
    assert words in told(errors, patients=patients)[0]


@pytest.mark.parametrize(("bias", "words"), [(6.04, "mean HU 6.0 too high"), (-4.2, "mean HU 4.2 too low")])
def test_a_shift_beyond_what_scanners_may_have_is_told(bias, words):
    assert words in told([-1.0], bias=bias)[0]


def test_alarms_are_told_with_their_meaning_and_number_of_slices():
    assert (
        told([-1.0], alarm=1.0)[-1] == "- alarms on slices, of 6: patches show something else than truth and input (6)"
    )


def test_tissues_that_no_slice_shows_are_not_spoken_of_and_without_a_baseline_nothing_is():
    assert not any("bone" in line for line in told([-1.0]))
    assert verdict([row for row in rows([-1.0]) if row.method == "ours"], "bicubic") == []


def test_the_glossary_has_every_column_of_the_tables_under_its_table():
    text = glossary()
    for one in COLUMNS.values():
        assert (f"  {one.name} {one.arrow}: {one.words}" in text) == one.in_tables, one.name
    assert all(f"{words}:" in text for words in GROUP_WORDS.values())


def test_a_report_explains_the_columns_of_its_tables_each_once():
    tables = [*result_tables(rows([-1.0]), {}), Table("cost", ("method",), (("ours",),))]
    assert [one.name for one, _ in glossary_of(tables * 2)] == [
        "lung_mae_hu",
        "bias_lung_hu",
        "bone_mae_hu",
        "unsupported_patches",
    ]
