"""A benchmark can be made again, bit for bit, from what was written down about it."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from qdm_med.data.degradation.degrade import BENCHMARK, CLINICAL, SCANNER, degrade
from qdm_med.data.store.slices import SliceStore
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.errors import DataError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_cases
from qdm_med.evaluation.cases import make_case, manifest_cases, read_manifest, rebuild_case
from qdm_med.evaluation.evaluate import evaluate
from qdm_med.evaluation.methods.interpolation import Interpolation
from qdm_med.evaluation.receipt import manifest
from qdm_med.intensity import CompandedRange
from qdm_med.keys import slice_degradation
from qdm_med.resample import bicubic

INTENSITY = CompandedRange()


@pytest.fixture(
    scope="module", params=[("network", "paper"), ("window", "paper"), ("network", "clinical"), ("network", "scanner")]
)
def written(request, store):
    """Cases of a benchmark, and its manifest after a journey through JSON."""
    options = BenchmarkOptions(
        "med-sr4", degrade_in=request.param[0], degradation=request.param[1], methods=("bicubic",), seed=3
    )
    cases = list(benchmark_cases(store, range(4), options, INTENSITY))
    rows = [
        row
        for rows in evaluate([Interpolation("bicubic", bicubic, INTENSITY)], cases, intensity=INTENSITY)
        for row in rows
    ]
    return cases, json.loads(json.dumps(manifest(rows, options, INTENSITY)))


def test_a_manifest_gives_the_same_pixels(store, written):
    cases, told = written
    again = list(manifest_cases(store, told))
    assert len(again) == len(cases) == 4
    for first, second in zip(cases, again, strict=True):
        assert first.low_hu.tobytes() == second.low_hu.tobytes()
        assert first.reference_hu.tobytes() == second.reference_hu.tobytes()
        assert first.params == second.params


@pytest.mark.parametrize(("name", "degradation"), [("paper", BENCHMARK), ("clinical", CLINICAL), ("scanner", SCANNER)])
def test_slices_are_made_coarse_as_is_asked(store, name, degradation):
    options = BenchmarkOptions("med-sr8", degradation=name, methods=("bicubic",), seed=3)
    (case,) = benchmark_cases(store, [2], options, INTENSITY)
    truth = torch.from_numpy(INTENSITY.to_unit(np.asarray(store.hu(2))))[None, None]
    params = degradation.draw(8, slice_degradation(3, 8, store.records[2].sha256))
    expected = INTENSITY.to_hu(degrade(truth, [params], intensity=INTENSITY)[0, 0].numpy())
    np.testing.assert_array_equal(case.low_hu, expected)


def test_slices_are_found_in_another_store_at_other_places(store, written, tmp_path):
    cases, told = written
    with SliceStoreWriter(tmp_path, slice_shape=(64, 64)) as writer:
        for index in reversed(range(4)):
            writer.add(np.array(store.hu(index)), store.records[index])
    again = list(manifest_cases(SliceStore.open(tmp_path), told))
    assert [case.index for case in again] == [3, 2, 1, 0]
    assert [case.low_hu.tobytes() for case in again] == [case.low_hu.tobytes() for case in cases]


def test_what_cannot_be_made_again_is_said(store, written):
    _, told = written
    entry = told["cases"][0]
    with pytest.raises(DataError, match="lacks slice ffff; use the store"):
        rebuild_case(store, entry | {"sha256": "ffff"}, INTENSITY)
    other = entry | {"degradation": entry["degradation"] | {"noise_seed": 1}}
    with pytest.raises(DataError, match="was degraded to other pixels"):
        rebuild_case(store, other, INTENSITY)


@pytest.mark.parametrize("change", ["[]", "{", "null", '{"cases": []}', {"cases": []}, {"cases": [{}]}, {"cases": [1]},
                                    {"intensity": {"kind": "odd"}}, {"intensity": {"kind": "window", "odd": 1}}])  # fmt: skip
def test_a_file_that_lists_no_benchmark_is_refused_in_a_line(written, tmp_path, change):
    _, told = written
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps(told))
    assert read_manifest(path) == told
    path.write_text(change if isinstance(change, str) else json.dumps(told | change))
    with pytest.raises(DataError, match=r"benchmark.json is no list of a benchmark's slices; give"):
        read_manifest(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_manifest(tmp_path)


def test_seeds_give_other_cases(store):
    one, two = (make_case(store, 0, 4, seed, INTENSITY) for seed in (0, 1))
    assert one.params != two.params
    assert one.low_sha256 != two.low_sha256
    assert one.record == two.record
    assert replace(one.params, noise_seed=0) != replace(two.params, noise_seed=0)
