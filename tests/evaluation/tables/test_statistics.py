import math

import numpy as np
import pytest

from qdm_med.errors import DataError
from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.statistics import agreements, differences, summarise


def score(method: str, patient: str, number: int, value: float, metric: str = "psnr_db") -> SliceScore:
    return SliceScore(method, 4, patient, str(number), 0.0, {metric: value})


def test_every_patient_counts_once_however_many_slices():
    rows = [score("m", "a", number, 10.0) for number in range(9)] + [score("m", "b", 9, 20.0)]
    (summary,) = summarise(rows)
    assert summary.mean == 15.0
    assert (summary.patients, summary.slices) == (2, 10)
    assert summary.interval == (10.0, 20.0)


def test_the_interval_is_as_wide_as_the_normal_theory_says():
    means = np.random.default_rng(3).normal(30.0, 2.0, 60)
    (summary,) = summarise([score("m", str(number), number, value) for number, value in enumerate(means)])
    low, high = summary.interval
    half_width = 1.96 * means.std() / 60**0.5
    assert low == pytest.approx(means.mean() - half_width, abs=0.15)
    assert high == pytest.approx(means.mean() + half_width, abs=0.15)


def test_one_patient_has_no_interval_and_infinite_values_are_not_averaged():
    (summary,) = summarise([score("m", "a", 0, 10.0), score("m", "a", 1, math.inf)])
    assert (summary.mean, summary.interval, summary.slices) == (10.0, None, 1)


def test_differences_are_paired_by_slice():
    rows = [
        score("base", "a", 0, 10.0),
        score("m", "a", 0, 12.0),
        score("base", "b", 1, 30.0),
        score("m", "b", 1, 31.0),
    ]
    assert [row.scores["psnr_db"] for row in differences(rows, "base")] == [2.0, 1.0]
    (summary,) = summarise(differences(rows, "base"))
    assert (summary.method, summary.mean) == ("m", 1.5)
    with pytest.raises(DataError, match="base was not run on a slice"):
        differences(rows[1:], "base")


def test_pairing_narrows_the_interval_of_a_difference():
    rng = np.random.default_rng(0)
    patients = rng.normal(30.0, 4.0, 20)
    rows = [score("base", str(number), number, value) for number, value in enumerate(patients)]
    rows += [score("m", str(number), number, value + 1 + 0.1 * rng.normal()) for number, value in enumerate(patients)]
    (paired,) = summarise(differences(rows, "base"))
    assert paired.interval[0] > 0.9
    assert paired.interval[1] < 1.1
    assert all(one.interval[1] - one.interval[0] > 2 for one in summarise(rows))


def test_the_same_seed_gives_the_same_interval():
    rows = [score("m", str(number), number, float(number**2)) for number in range(7)]
    assert summarise(rows, seed=1) == summarise(reversed(rows), seed=1)
    assert summarise(rows, seed=1) != summarise(rows, seed=2)


def test_limits_of_agreement_are_taken_over_patients():
    rows = [score("m", "a", 0, 1.0, "bias_bone_hu"), score("m", "a", 1, 3.0, "bias_bone_hu")]
    rows += [score("m", "b", 2, 4.0, "bias_bone_hu"), score("m", "c", 3, math.nan, "bias_bone_hu")]
    ((key, agreement),) = agreements(rows).items()
    assert key == ("m", "bone")
    assert (agreement.bias, agreement.count) == (3.0, 2)
    assert agreement.high - agreement.bias == pytest.approx(1.96 * 2**0.5)
