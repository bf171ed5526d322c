"""``eval`` as a whole: killed runs, files, sweeps, trees of files, damaged wishes."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest
import torch

from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation import run as whole_run
from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.cases import manifest_cases
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
from qdm_med.evaluation.tables.sweep import SWEEP_THRESHOLDS, sweep_points

CPU = torch.device("cpu")
OPTIONS = BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"))


@pytest.fixture(scope="module")
def evaluate(store, checkpoint):
    return lambda options=OPTIONS, **wishes: evaluate_checkpoint(
        wishes.pop("data", store.path), checkpoint, options, device=CPU, **wishes
    )


def without_seconds(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [repr({key: value for key, value in row.items() if key != "seconds"}) for row in rows]


def test_a_killed_run_goes_on_and_ends_with_the_same_rows(evaluate, tmp_path):
    evaluate(outputs=Outputs(tmp_path / "whole"))
    seen = []

    def kill(done, total):
        seen.append(done)
        if len(seen) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(outputs=Outputs(tmp_path / "killed"), progress=kill)
    assert len((tmp_path / "killed" / "cases.jsonl").read_text().splitlines()) == 4
    seen.clear()
    evaluate(outputs=Outputs(tmp_path / "killed"), progress=lambda done, total: seen.append(done))
    assert seen == [2, 3, 4]
    whole, killed = (without_seconds(tmp_path / name / "cases.jsonl") for name in ("whole", "killed"))
    assert whole == killed
    for name in ("summary.json", "benchmark.json", "receipt.json"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "killed" / name).read_text()


def test_other_options_in_the_same_folder_are_refused(evaluate, tmp_path):
    evaluate(outputs=Outputs(tmp_path))
    with pytest.raises(DataError, match=r"was begun with seed 0, now it is 1; go on with the same options"):
        evaluate(BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"), seed=1), outputs=Outputs(tmp_path))


def test_the_folder_tells_everything_and_the_benchmark_can_be_made_again(evaluate, store, checkpoint, tmp_path):
    found = evaluate(outputs=Outputs(tmp_path))
    receipt = json.loads((tmp_path / "receipt.json").read_text())
    assert receipt["model_sha256"] == "0" * 64
    assert receipt["consistency"] == ["off"]  # the model's own, so that no run goes on after that has changed
    assert {"qdm_med", "torch", "store_sha256", "seed", "degradation", "intensity", "lpips"} <= receipt.keys()
    rows = [json.loads(line) for line in (tmp_path / "cases.jsonl").read_text().splitlines()]
    assert len(rows) == len(found.rows) == 8
    assert all(row["degradation"]["scale"] == 4 and len(row["low_sha256"]) == 64 for row in rows)
    cases = list(manifest_cases(store, json.loads((tmp_path / "benchmark.json").read_text())))
    assert [case.low_sha256 for case in cases] == [row["low_sha256"] for row in rows[::2]]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert {one["metric"] for one in summary["differences_to_bicubic"]} >= {"psnr_db", "mae_hu"}
    assert {one["method"] for one in summary["bland_altman"]} == {"bicubic", "tiny, 2 steps, s = 0.15"}


def test_the_text_names_every_data_range_and_how_patients_were_kept_apart(evaluate):
    text = evaluate().text()
    for words in ("data range 2\n", "data range 4095\n", "data range 255\n", "4 slices of 2 patients"):
        assert words in text
    assert "make sure that it saw none of these" in text
    assert "Paired differences to bicubic" in text


def test_a_sweep_tells_density_windows_cost_and_quality_by_threshold(evaluate, tmp_path):
    found = evaluate(sweep=SWEEP_THRESHOLDS, outputs=Outputs(tmp_path))
    points = sweep_points(found.rows)
    assert [point.threshold for point in points] == list(SWEEP_THRESHOLDS)
    assert points[0].leaf_density == 1.0
    densities, macs = ([getattr(point, name) for point in points] for name in ("leaf_density", "macs"))
    assert densities == sorted(densities, reverse=True)
    assert macs == sorted(macs, reverse=True)
    assert all(point.quality["psnr_db"] > 5 and point.seconds > 0 for point in points)
    assert found.tables[0].title.startswith("Threshold ablation")
    assert len(found.tables[0].rows) == 6
    assert (tmp_path / "thresholds.png").read_bytes()[:4] == b"\x89PNG"


def test_a_tree_of_files_is_prepared_once_and_stays_with_the_results(evaluate, tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    hu = np.kron(np.random.default_rng(0).integers(-1000, 500, (32, 32, 1)), np.ones((16, 16, 1))).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1.0])), tree / "ct.nii.gz")
    options = BenchmarkOptions("med-sr4", methods=("bicubic",), split="test")
    found = evaluate(options, data=tree, outputs=Outputs(tmp_path / "out"))
    assert len(found.rows) == 1
    assert len(SliceStore.open(tmp_path / "out" / "store")) == 1
    assert sorted(path.name for path in tree.iterdir()) == ["ct.nii.gz"]
    evaluate(options, data=tree, outputs=Outputs(tmp_path / "out"))


def test_bad_wishes_are_refused_before_anything_is_run(evaluate, tmp_path, monkeypatch):
    monkeypatch.setattr(whole_run, "run_benchmark", lambda *_, **__: pytest.fail("ran"))
    with pytest.raises(ConfigError, match="is a folder; give the name of a file for --report"):
        evaluate(outputs=Outputs(report=tmp_path))
    with pytest.raises(ConfigError, match="threshold must lie in"):
        evaluate(sweep=(0.1, 5.0))
    with pytest.raises(DataError, match="no slice in split 'test'"):
        evaluate(BenchmarkOptions("med-sr4", split="test"), outputs=Outputs(tmp_path / "out"))
    assert not (tmp_path / "out" / "cases.jsonl").exists()
