"""One run at a time makes an output, in every format; a run that was killed holds nobody up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.derivation import Derivation
from qdm_med.io.output.lock import OutputLock, lock_path
from qdm_med.io.raster.nifti import NiftiWriter, read_nifti
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
from tests.io.nifti_files import DERIVATION, repeated, save, values

ROOT = Path(__file__).resolve().parents[3]
RIVALS = """
import json, os, sys, time, traceback
from pathlib import Path
import numpy as np
from qdm_med.errors import QdmMedError
from qdm_med.io.derivation import Derivation
from qdm_med.io.read import read_volume
from qdm_med.io.write import open_writer
source, out, told = map(Path, sys.argv[1:4])

def make(seed):
    volume = read_volume(source)
    with open_writer(volume, out, Derivation(4, "m", "0" * 64, (("seed", str(seed)),))) as writer:
        for index in range(len(volume)):
            if index not in writer.finished:
                time.sleep(0.01)
                writer.write(index, np.full((80, 64), float(seed), dtype=np.float32))
        writer.commit()

def rival(seed):
    try:
        make(seed)
        os._exit(0)
    except QdmMedError:
        os._exit(1)
    except BaseException:
        (told / f"{seed}.txt").write_text(traceback.format_exc())
        os._exit(2)

rivals = {seed: os.fork() or rival(seed) for seed in map(int, sys.argv[4:])}
print(json.dumps(rivals), flush=True)
sys.stdin.readline()  # until then nobody is waited for, so that the number of one that has ended is no other's
codes = {seed: os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) for seed, process in rivals.items()}
print(json.dumps(codes))
"""
"""Runs on one output, each a process of its own; what they import is imported once."""


@pytest.mark.parametrize("kind", ["dicom", "nifti", "metaimage"])
def test_a_second_run_on_one_output_is_refused_by_the_name_of_the_first(phantom, tmp_path, kind):
    if kind == "dicom":
        source, out = phantom(slices=2).write(), tmp_path / "out"
    else:
        source, out = save(tmp_path / "ct.nii", values()), tmp_path / "out.nii"
    volume = read_volume(source)
    if kind == "metaimage":
        import SimpleITK

        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values()), str(tmp_path / "ct.mha"))
        volume, out = read_volume(tmp_path / "ct.mha"), tmp_path / "out.mha"
    with open_writer(volume, out, DERIVATION) as first:
        with pytest.raises(SeriesError, match=rf"process {os.getpid()} on .* since"):
            open_writer(volume, out, Derivation(4, "another", "1" * 64))
        for index in range(len(volume)):
            first.write(index, repeated(volume, index))
        first.commit()
    assert out.exists()
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_an_output_that_appeared_while_a_run_waited_for_its_lock_is_not_replaced(tmp_path, monkeypatch):
    volume, out = read_nifti(save(tmp_path / "ct.nii", values())), tmp_path / "out.nii"

    class Slow(OutputLock):
        def __init__(self, path: Path) -> None:
            out.write_bytes(b"of another run")  # it was done between our look at the place and our lock
            super().__init__(path)

    monkeypatch.setattr("qdm_med.io.output.job_folder.OutputLock", Slow)
    with pytest.raises(SeriesError, match="exists"):
        NiftiWriter(volume, out, DERIVATION)
    assert out.read_bytes() == b"of another run"
    assert not lock_path(out).exists()


def test_the_lock_of_a_killed_run_is_stale(tmp_path):
    out = tmp_path / "out.nii"
    code = (
        f"import sys, time; from pathlib import Path; from qdm_med.io.output.lock import OutputLock\n"
        f"lock = OutputLock(Path({str(out)!r})); print('held', flush=True); time.sleep(60)"
    )
    held = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=ROOT)
    assert held.stdout.readline() == b"held\n"
    with pytest.raises(SeriesError, match=f"process {held.pid}"):
        OutputLock(out)
    held.kill()
    held.wait()
    held.stdout.close()
    assert lock_path(out).exists()
    OutputLock(out).release()
    assert not lock_path(out).exists()


def test_where_the_file_system_has_no_locks_the_owner_in_the_file_decides(tmp_path, monkeypatch):
    monkeypatch.setattr("qdm_med.io.output.lock.fcntl", None)
    out = tmp_path / "out"
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    import socket

    for owner, free in (
        ({"process": os.getppid(), "host": socket.gethostname(), "since": "now"}, False),
        ({"process": 1, "host": "elsewhere", "since": "now"}, False),
        ({"process": ended.pid, "host": socket.gethostname(), "since": "now"}, True),
    ):
        lock_path(out).write_text(json.dumps(owner))
        if free:
            OutputLock(out).release()
        else:
            with pytest.raises(SeriesError, match="is making it"):
                OutputLock(out)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["nifti", "dicom"])
def test_eight_concurrent_runs_that_are_killed_at_random_never_mix_their_slices(phantom, tmp_path, kind):
    is_dicom = kind == "dicom"
    source = (
        phantom(slices=12, columns=16).write()
        if is_dicom
        else save(tmp_path / "ct.nii.gz", np.zeros((16, 20, 12), dtype=np.int16))
    )
    out, chance = tmp_path / ("out" if is_dicom else "out.nii.gz"), random.Random(kind)
    told = tmp_path / "told"
    told.mkdir()
    with rivals(source, out, told, *range(1, 9)) as (launcher, processes):
        wait_for_any(lock_path(out), out)  # kills before anything is written try nothing
        for process in chance.sample(processes, 5):
            time.sleep(chance.uniform(0.0, 0.2))
            os.kill(process, signal.SIGKILL)
        codes = json.loads(launcher.communicate("\n")[0])
    assert [path.read_text() for path in told.iterdir()] == []
    assert len(codes) == 8
    assert set(codes.values()) <= {0, 1, -signal.SIGKILL}
    if not out.exists():
        with rivals(source, out, told, 9) as (launcher, _):
            assert json.loads(launcher.communicate("\n")[0]) == {"9": 0}
    volume = read_volume(out, force=True)
    found = {float(value) for each in volume.slices for value in np.unique(each.hu)}
    assert len(volume) == 12
    assert len(found) == 1
    seed = f"seed {int(found.pop())}"
    if is_dicom:
        texts = {str(pydicom.dcmread(path, stop_before_pixels=True).DerivationDescription) for path in out.iterdir()}
        assert all(seed in text for text in texts)
    else:
        assert seed.encode() in bytes(nibabel.load(out).header.extensions[0].get_content())
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert not {name for name in left if name.endswith(".lock")} or is_free(out)


@contextmanager
def rivals(*given: object):
    """Start them; gives the process that will tell their exit codes, and theirs."""
    command = [sys.executable, "-c", RIVALS, *map(str, given)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as launcher:
        yield launcher, list(json.loads(launcher.stdout.readline()).values())


def wait_for_any(*paths: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(path.exists() for path in paths):
        assert time.monotonic() < deadline, "nothing was written"
        time.sleep(0.005)


def is_free(out: Path) -> bool:
    """Whether what a killed run left holds nobody up."""
    OutputLock(out).release()
    return not lock_path(out).exists()
