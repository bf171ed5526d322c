"""The kit for machines without a network installs with the index switched off, and notices a changed file."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from qdm_med._version import __version__

pytest.importorskip("setuptools")
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_kit_installs_without_an_index(tmp_path):
    kit, place = tmp_path / "kit", tmp_path / "venv"
    stale = ROOT / "build" / "lib" / "qdm_med" / "gone.py"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    made = [sys.executable, ROOT / "tools" / "offline_kit.py", kit, "--no-dependencies"]
    subprocess.run(made, check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    (wheel,) = (kit / "wheels").glob("*.whl")
    assert not any("gone" in name for name in zipfile.ZipFile(wheel).namelist())
    stated = dict(reversed(line.split("  ")) for line in (kit / "SHA256SUMS").read_text().splitlines())
    found = {path.relative_to(kit).as_posix() for path in kit.rglob("*") if path.is_file()}
    assert set(stated) == found - {"SHA256SUMS"}
    assert stated["qdm-t.safetensors"] == hashlib.sha256((kit / "qdm-t.safetensors").read_bytes()).hexdigest()
    with (kit / "licences.csv").open() as file:
        assert list(csv.DictReader(file)) == [{"package": "qdm-med", "version": __version__, "licence": "Apache-2.0"}]
    install = ["sh", kit / "install.sh", place, "--no-deps"]
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": "", "PIP_INDEX_URL": "https://asked.invalid"}
    subprocess.run(install, check=True, env=environment)
    # Everything but our own wheel comes from the environment that runs the test: no test downloads PyTorch.
    (packages,) = place.glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    where = [place / "bin" / "python", "-c", "import qdm_med; print(qdm_med.__file__)"]
    installed = subprocess.run(where, check=True, cwd=tmp_path, env=environment, capture_output=True, text=True).stdout
    assert str(place) in installed
    told = subprocess.run(
        [place / "bin" / "qdm-med", "--version"],
        check=True,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert __version__ in told.stdout
    with (kit / "LICENSE").open("a") as file:
        file.write("changed")
    changed = subprocess.run(install, env=environment, capture_output=True, text=True)
    assert changed.returncode != 0
    assert "LICENSE" in changed.stdout + changed.stderr
