import math

import numpy as np
import pytest

from qdm_med.data.degradation import BENCHMARK
from qdm_med.data.pairs import full_pairs
from qdm_med.data.slice_writer import SliceStoreWriter
from qdm_med.data.slices import SliceRecord, SliceStore, slice_checksum
from qdm_med.errors import DataError
from qdm_med.evaluation.baselines import bicubic, lanczos
from qdm_med.evaluation.evaluate import SliceScore, differences, evaluate, summarise
from qdm_med.evaluation.metrics import MAE, PSNR, SSIM
from qdm_med.intensity import CompandedRange


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("store")
    row, column = np.mgrid[:64, :64]
    with SliceStoreWriter(path, slice_shape=(64, 64)) as writer:
        for number, patient in enumerate("aab"):
            disk = np.hypot(row - 32, column - 32 + number) < 20
            hu = np.where(disk, 50 + 10 * number, -900).astype(np.int16)
            writer.add(hu, SliceRecord("val", patient, "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(path)


def run(store, methods, scale=4):
    return list(evaluate(methods, full_pairs(store, "val", scale, BENCHMARK), intensity=CompandedRange()))


def test_every_method_is_scored_on_every_slice(store):
    rows = run(store, {"bicubic": bicubic, "lanczos": lanczos})
    assert [(row.method, row.patient) for row in rows] == [
        (method, patient) for patient in "aab" for method in ("bicubic", "lanczos")
    ]
    assert all(row.scores[PSNR] > 10 and 0 < row.scores[SSIM] < 1 and row.scores[MAE] > 0 for row in rows)


def test_an_oracle_is_perfect(store):
    truth = iter([pair.high_res for pair in full_pairs(store, "val", 4, BENCHMARK)])
    rows = run(store, {"oracle": lambda low_res, scale: next(truth)})
    assert {row.scores[MAE] for row in rows} == {0.0}
    assert {row.scores[PSNR] for row in rows} == {math.inf}


def test_a_method_of_the_wrong_size_or_with_nan_is_named(store):
    with pytest.raises(DataError, match="method lazy made an image"):
        run(store, {"lazy": lambda low_res, scale: low_res})
    with pytest.raises(DataError, match="not numbers"):
        run(store, {"broken": lambda low_res, scale: bicubic(low_res, scale) * math.nan})


def score(method: str, patient: str, number: int, value: float) -> SliceScore:
    return SliceScore(method, 4, patient, str(number), 0.0, {PSNR: value})


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
    assert [row.scores[PSNR] for row in differences(rows, "base")] == [2.0, 1.0]
    (summary,) = summarise(differences(rows, "base"))
    assert (summary.method, summary.mean) == ("m", 1.5)
    with pytest.raises(DataError, match="base was not run on a slice"):
        differences(rows[1:], "base")


def test_the_same_seed_gives_the_same_interval():
    rows = [score("m", str(number), number, float(number**2)) for number in range(7)]
    assert summarise(rows, seed=1) == summarise(reversed(rows), seed=1)
    assert summarise(rows, seed=1) != summarise(rows, seed=2)
