"""Examples are programs that run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pydicom.data import get_testdata_file

from tests.scripts import run_here

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run_apart(name, *arguments):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == {
        "demo.py",
        "read_and_inspect.py",
        "train_tiny.py",
        "upscale_from_python.py",
    }


def test_read_and_inspect(tmp_path):
    shutil.copy(get_testdata_file("CT_small.dcm", download=False), tmp_path / "slice.dcm")
    told = run_apart("read_and_inspect.py", tmp_path)
    assert "1 slices of 128 x 128" in told
    assert "0.661 x 0.661 mm" in told


@pytest.mark.slow
def test_upscale_from_python(capsys):
    run_here(EXAMPLES / "upscale_from_python.py")
    assert "(48, 64) -> (384, 512), pixel 0.1 mm" in capsys.readouterr().out


@pytest.mark.slow
def test_train_tiny(tmp_path, capsys):
    run_here(EXAMPLES / "train_tiny.py", tmp_path)
    assert "model tiny for x(4, 8)" in capsys.readouterr().out


@pytest.mark.slow
def test_demo(tmp_path):
    run_apart("demo.py", tmp_path / "demo")
    report = json.loads((tmp_path / "demo" / "report.json").read_text())
    assert report["output_shape"] == [512, 512]
    assert 0 < report["active_leaves"] < 1
    assert abs(report["mean_hu_output"] - report["mean_hu_input"]) < 1
    assert (tmp_path / "demo" / "comparison.png").stat().st_size > 10_000
    assert len(list((tmp_path / "demo" / "series").iterdir())) == 1
