"""A listener that is killed with SIGKILL, between receiving and computing and in the middle of computing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from qdm_med.pacs.addresses import Node
from qdm_med.pacs.send import send_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def start(tmp_path, checkpoint, wait):
    """Start ``qdm-med listen`` as a process of its own; give it with the file of its lines."""
    running = []

    def start(destination, *options):
        told = tmp_path / f"told-{len(running)}.txt"
        command = ["-m", "qdm_med.cli.app", "listen", "--spool", tmp_path / "spool", "--allow", "CT1@127.0.0.1"]
        command += ["--to", destination, "--port", 0, "--checkpoint", checkpoint, "--device", "cpu", *options]
        root = Path(__file__).resolve().parents[2]
        with told.open("w") as lines:
            process = subprocess.Popen(
                [sys.executable, *map(str, command)],
                stderr=lines,
                stdout=lines,
                env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
            )
        running.append(process)
        wait(60, lambda: "listening" in told.read_text() or process.poll() is not None)
        return process, told

    yield start
    for process in running:
        process.kill()
        process.wait()


def test_nothing_that_was_answered_with_success_is_lost_by_kills(start, archive, make_series, tmp_path, wait):
    slices = 40  # long enough to be seen in the middle by a process that waits for its turn
    peer = archive()
    series = make_series(tmp_path / "series", slices=slices)
    process, told = start(peer.node, "--settle", 3600)
    port = int(told.read_text().split(",")[0].rpartition(":")[2])
    assert send_folder(series, Node("QDM_MED", "127.0.0.1", port), title="CT1") == slices
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / "spool" / "receiving").rglob("*.dcm"))) == slices

    process, _ = start(peer.node, "--settle", 0)
    partial = tmp_path / "spool" / "queue" / "000001" / ".derived.partial" / "slices"
    wait(60, lambda: partial.is_dir() and any(partial.glob("*.dcm")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    computed = {path.name: path.read_bytes() for path in partial.glob("*.dcm")}
    assert 0 < len(computed) < slices
    assert peer.files == []

    _, told = start(peer.node, "--settle", 0)
    wait(60, lambda: "stored by" in told.read_text())
    assert f"{slices} slices ({len(computed)} of them before a restart)" in told.read_text()
    assert len(peer.files) == slices
    sent = set(peer.files)
    assert all(content[144 + int.from_bytes(content[140:144], "little") :] in sent for content in computed.values())
    assert list((tmp_path / "spool").rglob("*.dcm")) == []
    assert not any("SECRET" in lines.read_text() for lines in tmp_path.glob("told-*.txt"))
