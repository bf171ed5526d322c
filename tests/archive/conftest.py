"""A tiny model in a file, small trees, and processes that a test can kill and that end with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.making import Maker
from qdm_med.archive.request import Request
from qdm_med.checkpoints.model import ModelCard, save_checkpoint
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.scales import load_upscalers
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.archive.trees import write_tree
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = UpscaleOptions(steps=1)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    networks = KlVae(TINY_AUTOENCODER), TwoStreamDenoiser(TINY_DENOISER)
    with torch.no_grad():
        networks[1].read_out.weight.normal_(std=0.1)  # zero at the start: noise would not show
    save_checkpoint(path, ModelCard("tiny", TINY_AUTOENCODER, TINY_DENOISER), *networks)
    return path


@pytest.fixture(scope="session")
def upscalers(checkpoint):
    return load_upscalers(checkpoint, OPTIONS, device="cpu")


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", 3)


@pytest.fixture
def request_for(checkpoint):
    def request_for(tree, out, **others):
        return Request.of(tree, out, checkpoint, OPTIONS, "cpu", **others)

    return request_for


@pytest.fixture
def maker(tree, tmp_path, request_for, upscalers):
    """What a worker makes series of ``tree`` with."""
    request = request_for(tree, tmp_path / "out")
    folder = ArchiveFolder(tmp_path / "out")
    folder.state.mkdir(parents=True)
    return Maker(tree.resolve(), folder, request.settings, upscalers)


@pytest.fixture
def start():
    """Start a Python process of this tree in a group of its own; the group is killed at the end of the test."""
    started = []

    def start(*arguments, **options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **options,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        kill_group(process)
        process.stdout.close()
    deadline = time.monotonic() + 10
    while any(members(process.pid) for process in started):
        assert time.monotonic() < deadline, "orphan processes"
        time.sleep(0.1)


def kill_group(process):
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def members(group: int) -> list[int]:
    """Processes of a group that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def wait_for(condition, seconds=60):
    """Poll until something is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.02)
    return found
