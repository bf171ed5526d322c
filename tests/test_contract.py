"""The embedded model on real CT, judged by a checker that we did not write."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parent.parent.parent / "shared"

pytestmark = [pytest.mark.shared, pytest.mark.slow]


@pytest.fixture(scope="module")
def real_slice(tmp_path_factory):
    """One slice of a real series whose padding is marked."""
    folder = tmp_path_factory.mktemp("real")
    with zipfile.ZipFile(SHARED / "data" / "ct" / "tcia_rider_pilot_0117.zip") as archive:
        name = sorted(name for name in archive.namelist() if name.endswith(".dcm"))[20]
        with archive.open(name) as stored, (folder / "slice.dcm").open("wb") as target:
            shutil.copyfileobj(stored, target)
    return folder


@pytest.mark.parametrize("scale", [4, 8])
def test_a_real_slice_passes_the_contract(real_slice, tmp_path, scale):
    out = tmp_path / "out"
    command = [sys.executable, "-m", "qdm_med.cli.app", "upscale", "--series", real_slice, "--out", out]
    subprocess.run([*map(str, command), "--scale", str(scale), "--steps", "1"], check=True)
    checker = [sys.executable, SHARED / "tools" / "check_derived.py", real_slice, out, str(scale)]
    checked = subprocess.run(list(map(str, checker)), capture_output=True, text=True, check=False)
    failed = [line for line in checked.stdout.splitlines() if line.startswith("FAIL")]
    assert not failed, checked.stdout
    assert checked.returncode == 0, checked.stdout + checked.stderr
