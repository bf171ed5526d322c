"""The scripts run to their end; what they print on a busy machine is nobody's business here."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qdm_med.checkpoints.model import load_checkpoint, save_checkpoint
from qdm_med.data.store.slices import anonymous_key
from tests.scripts import run_here
from tests.stores import write_store

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


def run_apart(script, *arguments):
    command = [sys.executable, script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def written(run, name, out, *arguments):
    """What a script writes."""
    run(ROOT / name, *arguments, "--out", out)
    told = json.loads(out.read_text())
    assert told
    return told


def figures(name, out, *arguments):
    """What a script writes that measures with ``timing``."""
    told = written(run_here, name, out, *arguments, "--threads", 1)["figures"]
    assert told
    return told


def all_finite(told):
    return all(math.isfinite(value) for row in told.values() for value in row.values())


@pytest.fixture
def store_folder(tmp_path):
    """Two noisy slices of 64 x 64 in ``val``, of two patients."""
    noisy = [np.random.default_rng(number).normal(0, 300, (64, 64)).astype(np.int16) for number in range(2)]
    slices = ((hu, "val", anonymous_key(f"patient {number}")) for number, hu in enumerate(noisy))
    return write_store(tmp_path / "store", slices)


@pytest.fixture
def saved(checkpoint, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, checkpoint.card, checkpoint.autoencoder, checkpoint.denoiser)
    return path


def test_a_step_by_active_windows(tmp_path):
    told = figures("benchmarks/network_step.py", tmp_path / "out.json", "--preset", "t", "--repeats", 1)
    assert all_finite(told)
    assert told["t: 64 windows, full"]["of 64 windows, full"] == 1
    assert {"t: 0 windows, real", "t: upstream alone", "t: 10% of leaves"} <= told.keys()


def test_what_the_quadtree_saves(tmp_path, store_folder, saved):
    told = figures("benchmarks/sparsity.py", tmp_path / "out.json", store_folder, "--checkpoint", saved, "--slices", 1)
    assert all_finite(told)
    assert told["x4 slice: dense"]["leaves"] == 1
    assert {"x4 downstream, s = 0.15", "x4 source", "x4 slice: adaptive", "x4 one thread"} <= told.keys()


def test_how_far_an_answer_depends_on_tiles_and_quadtree(tmp_path, store_folder):
    told = figures("benchmarks/clinical_slices.py", tmp_path / "out.json", store_folder, "--slices", 1, "--scales", "8")
    assert all_finite(told)
    assert told["x8 tiles of 1152 output pixels"]["HU RMS apart"] == 0  # the slice is one tile either way
    assert told["x8 every leaf"]["HU RMS apart"] == 0  # noise of 300 HU: every leaf is active anyway
    assert {"x8 default", "x8 tiles of 512 output pixels", "x8 the paper's fusion"} <= told.keys()


def test_whole_series(tmp_path):
    small = ("--side", 16, "--large", 16, "--slices", "1,2", "--repeats", 1)
    told = figures("benchmarks/whole_series.py", tmp_path / "out.json", *small)
    assert all_finite(told)
    assert {"2 slices of 16", "line through the seconds", "one slice 16 -> 128"} <= told.keys()


def test_the_calibration_of_samples(tmp_path, store_folder, saved):
    calibrated = tmp_path / "calibrated.safetensors"
    given = (saved, store_folder, calibrated, "--samples", 2)
    told = figures("tools/calibrate_uncertainty.py", tmp_path / "out.json", *given)
    assert told["x4"]["patients"] == told["x4"]["held-out patients"] == 1
    assert load_checkpoint(calibrated).card.uncertainty[0].scale == 4


def test_the_cost_of_reading_and_writing(tmp_path):
    written(run_apart, "benchmarks/io_cost.py", tmp_path / "out.json", "--slices", 1, "--repeats", 1)


def test_the_speed_of_degradations(tmp_path):
    told = figures("benchmarks/degradation_speed.py", tmp_path / "out.json", "--side", 64, "--batch", 1, "--repeats", 1)
    assert all_finite(told)
