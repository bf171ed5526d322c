"""Many processes train the network that one would train, and none of them waits for one that has failed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_med import distributed
from qdm_med.checkpoints.file import read_tensors
from qdm_med.data.store.slices import anonymous_key
from qdm_med.errors import ConfigError
from qdm_med.training.experiment import ExperimentConfig, save_config
from qdm_med.training.log import LOG_FILE
from qdm_med.training.loop import CHECKPOINT_FILE, LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import Start, run_denoiser, run_vae
from qdm_med.training.state import STATE_FILE
from qdm_med.training.task import Share, shares_of_process
from qdm_med.training.vae import VaeTrainingConfig
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

PROGRAM = Path(__file__).with_name("many_processes.py")

CONFIG = ExperimentConfig(
    name="shared",
    loop=LoopConfig(
        steps=6, batch=5, learning_rate=1e-3, warmup=1, log_every=1, save_every=2, validate_every=6, accumulate=1
    ),
    autoencoder=TINY_AUTOENCODER,
    vae=VaeTrainingConfig(crop=32, validation_slices=1),
    denoiser=TINY_DENOISER,
    training=DenoiserTrainingConfig(
        crops=(32,), thresholds=(0.3,), benchmark_share=1.0, decoded_weight=1.0, validation_slices=1
    ),
)
"""Five items a step: two processes hold three and two, in two parts two and one, one and one."""


ADVERSARIAL = replace(
    CONFIG,
    vae=replace(
        CONFIG.vae, adversarial_weight=0.1, adversarial_start=1, discriminator_channels=4, discriminator_layers=2
    ),
)
"""In the first step the discriminator has no gradient, in none of the processes."""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Slices with detail and slices without any, so that some shares have no active leaf."""
    hu = [np.full((64, 64), 100 * number, np.int16) if number % 2 else blocky(number, 4) for number in range(6)]
    splits = ("val", *["train"] * 5)
    slices = ((hu[number], splits[number], anonymous_key(f"patient {number}")) for number in range(6))
    return write_store(tmp_path_factory.mktemp("data") / "store", slices)


@pytest.fixture(scope="module")
def alone(store, tmp_path_factory):
    """Runs of one process."""
    folder = tmp_path_factory.mktemp("alone")
    run_vae(CONFIG, Start(store, folder / "vae", device="cpu", report=lambda line: None))
    run_vae(ADVERSARIAL, Start(store, folder / "adversarial", device="cpu", report=lambda line: None))
    vae = folder / "vae" / CHECKPOINT_FILE
    run_denoiser(CONFIG, Start(store, folder / "denoiser", device="cpu", report=lambda line: None), vae)
    return folder


PORT_TAKEN = ("EADDRINUSE", "ddress already in use", "DistNetworkError")
"""What torchrun says when another program took the free port that it had found: the machine's luck, not our code."""


def torchrun(*arguments):
    done = torchrun_once(*arguments)
    if done.returncode and any(said in done.stderr for said in PORT_TAKEN):
        return torchrun_once(*arguments)
    return done


def torchrun_once(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *arguments]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        out, err = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.terminate()  # unlike a kill, torchrun passes it on to its processes
        process.communicate()
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, err)


def log(folder):
    return [json.loads(line) for line in (folder / LOG_FILE).read_text().splitlines()]


def assert_same_run(folder, reference):
    ours, theirs = log(folder), log(reference)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, other in zip(ours, theirs, strict=True):
        assert line.keys() == other.keys()
        for name in line.keys() - {"seconds", "cpu_minutes", "validation"}:
            assert line[name] == pytest.approx(other[name], abs=1e-5), (name, line["step"])
    tensors, others = read_tensors(folder / STATE_FILE)[0], read_tensors(reference / STATE_FILE)[0]
    assert tensors.keys() == others.keys()
    for name, tensor in tensors.items():
        torch.testing.assert_close(tensor, others[name], atol=1e-4, rtol=1e-3, msg=lambda text, name=name: name + text)


@pytest.fixture(scope="module")
def two(store, alone, tmp_path_factory):
    """What two processes did, one thing after the other: to start them takes longer than all that they train."""
    folder = tmp_path_factory.mktemp("two")
    save_config(replace(CONFIG, name="commanded"), folder / "command.yaml")
    for name, config in (("config", CONFIG), ("adversarial", ADVERSARIAL)):
        save_config(replace(config, loop=replace(config.loop, accumulate=2)), folder / f"{name}.yaml")
    return folder, torchrun(PROGRAM, "all in a row", store, alone / "vae" / CHECKPOINT_FILE, folder)


@pytest.mark.slow
def test_the_command_line_trains_with_two_processes_what_it_trains_with_one(two, alone):
    folder, done = two
    assert done.stdout.count("training commanded") == 1, done.stderr  # one process speaks for all
    assert_same_run(folder / "command", alone / "denoiser")


@pytest.mark.slow
def test_two_processes_resume_and_accumulate_together(two, alone):
    folder, _ = two
    assert_same_run(folder / "vae", alone / "vae")
    assert_same_run(folder / "adversarial", alone / "adversarial")
    assert_same_run(folder / "denoiser", alone / "denoiser")
    notes = [
        [json.loads(line) for line in (folder / f"leaves-{rank}.jsonl").read_text().split("\n")[:-1]] for rank in (0, 1)
    ]
    assert all(Counter(step for step, _ in rank)[0] == 2 for rank in notes)  # parts
    steps = [{step: sum(leaves for other, leaves in rank if other == step) for step, _ in rank} for rank in notes]
    assert any(bool(steps[0][step]) != bool(steps[1][step]) for step in steps[0])  # one process without the downstream
    # and a last part without it, whose exchange must take the gradients of the first along:
    assert any(first and not last for rank in notes for (step, first), (same, last) in pairwise(rank) if step == same)


@pytest.mark.slow
def test_every_process_is_told_why_what_one_does_alone_has_failed(two):
    folder, done = two
    told = {path.name: path.read_text() for path in folder.glob("told-*")}
    assert told == dict.fromkeys(("told-0", "told-1"), "the store is gone"), done.stderr


@pytest.mark.slow
def test_no_process_waits_for_one_that_failed_in_a_step(two):
    folder, done = two
    assert done.returncode == 1
    assert "qdm-med: the store is gone" in done.stderr
    assert [line["step"] for line in log(folder / "failing")] == [1]  # it began, and failed in the second step


AGENT = (
    *("-m", "torch.distributed.run", "--nnodes", "1:2", "--nproc-per-node", "1", "--max-restarts", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-id", "elastic"),
    # Seconds until a silent node counts as lost, and that a smaller group waits for others: 15 and 30 by default.
    *("--rdzv-conf", "keep_alive_interval=1,keep_alive_max_attempt=3,last_call_timeout=2"),
)


ELASTIC = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
"""Else a node that joins a running group waits in vain for its address, which is told in the first round alone."""


@pytest.fixture
def start_node(store, alone, tmp_path):
    """Start a torchrun agent as a node would; the first one holds the meeting point, without which a run ends."""
    save_config(CONFIG, tmp_path / "config.yaml")
    agents = []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start_node():
        plan = (PROGRAM, "waits in step 3", store, alone / "vae" / CHECKPOINT_FILE, tmp_path)
        command = [sys.executable, *AGENT, "--rdzv-endpoint", f"127.0.0.1:{port}", *map(str, plan)]
        with (tmp_path / f"node-{len(agents)}.log").open("w") as told:
            agents.append(subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT, env=ELASTIC))
        return agents[-1]

    yield start_node
    for agent in agents:
        kill_node(agent)


def kill_node(agent):
    """End the agent and its processes at once, as a power cut would."""
    children = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == agent.pid:
                children.append(int(stat.parent.name))
    agent.kill()
    for child in children:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    agent.wait()


def noted(folder):
    """World and steps of every process so far."""
    files = sorted(folder.glob("steps-*.jsonl"))
    return [[tuple(json.loads(line)) for line in file.read_text().split("\n")[:-1]] for file in files]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes of a node are found in /proc")
def test_nodes_that_join_and_are_killed_change_nothing_but_rounding(start_node, alone, tmp_path):
    deadline = time.monotonic() + 300

    def wait_for_processes_in_step(step, world, count):
        while sum(steps[-1:] == [(world, step)] for steps in noted(tmp_path)) < count:
            assert time.monotonic() < deadline, (tmp_path / "node-0.log").read_text()
            time.sleep(0.05)

    first = start_node()
    wait_for_processes_in_step(3, world=1, count=1)
    second = start_node()
    wait_for_processes_in_step(3, world=2, count=2)
    kill_node(second)
    (tmp_path / "lost").touch()
    assert first.wait(timeout=120) == 0, (tmp_path / "node-0.log").read_text()
    # Alone, then as two and again alone from the last state, which is of step 2.
    spans = sorted((steps[0], steps[-1]) for steps in noted(tmp_path))
    assert spans == [((1, 0), (1, 3)), ((1, 2), (1, 5)), ((2, 2), (2, 3)), ((2, 2), (2, 3))]
    assert_same_run(tmp_path / "denoiser", alone / "denoiser")


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("size", [3, 4, 7, 16])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_every_item_of_a_batch_has_one_share_and_every_share_an_item(monkeypatch, world, size, accumulate):
    monkeypatch.setattr(distributed, "world_size", lambda: world)
    shares = []
    for rank in range(world):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares.append(shares_of_process(size, accumulate))
    assert len({len(own) for own in shares}) == 1  # else a process would wait for the others' exchange for ever
    assert len(shares[0]) == accumulate or accumulate * world > size
    items = [list(share.items(size)) for own in shares for share in own]
    assert all(items)
    assert sorted(chain(*items)) == list(range(size))


def test_one_process_without_accumulation_holds_the_whole_batch():
    assert shares_of_process(5, 1) == [Share(0, 1)]


def test_more_processes_than_images_are_refused(monkeypatch, store, alone, tmp_path):
    monkeypatch.setattr(distributed, "world_size", lambda: 6)
    with pytest.raises(ConfigError, match="5 images, too few for 6 processes"):
        run_vae(CONFIG, Start(store, tmp_path / "vae", device="cpu"))
    vae = alone / "vae" / CHECKPOINT_FILE
    with pytest.raises(ConfigError, match="5 images, too few for 6 processes"):
        run_denoiser(CONFIG, Start(store, tmp_path / "run", device="cpu"), vae)
    assert list(tmp_path.iterdir()) == []


def test_every_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert distributed.own_device(torch.device("cuda")) == torch.device("cuda:1")
    assert distributed.own_device(torch.device("cuda:0")) == torch.device("cuda:0")
    assert distributed.own_device(torch.device("cpu")) == torch.device("cpu")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ConfigError, match="finds 2 GPUs"):
        distributed.own_device(torch.device("cuda"))
