"""Program of the tests with many processes: ``torchrun ... many_processes.py PLAN STORE VAE OUT``.

``all in a row``: train the denoiser by the command line, then both networks and an autoencoder with an adversary, this and
the denoiser killed once and resumed; then fail in what rank 0 does alone, and at last in the middle of a step of rank 0.
``waits in step 3``: train the denoiser from the state that is there; every process waits there for the file ``lost``.
Each process writes down the active leaves of every share of the denoiser's batches that it computes.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

from qdm_med import distributed
from qdm_med.cli import app
from qdm_med.errors import DataError
from qdm_med.training.denoiser import DenoiserTask
from qdm_med.training.experiment import load_config
from qdm_med.training.loop import Trainer
from qdm_med.training.runs import Start, run_denoiser, run_vae


class Killed(BaseException):
    pass


def fail(*_):
    raise DataError("the store is gone")


def note_leaves(folder):
    draw, make_batch = DenoiserTask.draw, DenoiserTask.batch

    def batch(self, drawn):
        step, own = drawn
        made = make_batch(self, own)
        with (folder / f"leaves-{distributed.rank()}.jsonl").open("a") as notes:
            notes.write(json.dumps([step, int(made.known.leaves.sum())]) + "\n")
        return made

    DenoiserTask.draw = lambda self, step, share: (step, draw(self, step, share))
    DenoiserTask.batch = batch


def kill_at(step):
    train_step = Trainer._train_step

    def dying(self, network):
        if self.step == step:
            Trainer._train_step = train_step
            raise Killed
        return train_step(self, network)

    Trainer._train_step = dying


def fail_in_rank_0_at(step):
    make_draw = DenoiserTask.draw

    def draw(self, now, share):
        if distributed.rank() == 0 and now == step:
            fail()
        return make_draw(self, now, share)

    DenoiserTask.draw = draw


def survive(train, folder, step):
    kill_at(step)
    try:
        train(folder)
    except Killed:
        train(folder, resume=True)


def note_steps_and_wait(folder, step):
    """Write down world and steps of each process, and wait until the test has killed one."""
    make_draw = DenoiserTask.draw

    def draw(self, now, share):
        with (folder / f"steps-{os.getpid()}.jsonl").open("a") as notes:
            notes.write(json.dumps([distributed.world_size(), now]) + "\n")
        while now == step and not (folder / "lost").exists():
            time.sleep(0.02)
        return make_draw(self, now, share)

    DenoiserTask.draw = draw


def by_command(config, store, vae, out):
    """Train through the commands, whose entry this program has taken for itself."""
    wishes = ("--data", store, "--config", config, "--vae", vae, "--out", out, "--device", "cpu")
    try:
        COMMANDS(["train", *map(str, wishes)])
    except SystemExit as end:
        if end.code:
            raise


def fail_alone_in_rank_0(train, folder):
    """Each process writes down what it was told of the failure."""
    validate, DenoiserTask.validate = DenoiserTask.validate, fail
    try:
        train(folder / "failing-alone")
    except DataError as error:
        (folder / f"told-{distributed.rank()}").write_text(str(error))
    DenoiserTask.validate = validate


def main(plan, store, vae, out):
    config = load_config(out / "config.yaml")
    short = replace(config, loop=replace(config.loop, steps=2, validate_every=2))

    def train(folder, *, resume=False, config=config):
        run_denoiser(config, Start(store, folder, device="cpu", resume=resume), vae)

    def train_adversarial(folder, *, resume=False):
        game = load_config(out / "adversarial.yaml")
        run_vae(game, Start(store, folder, device="cpu", resume=resume))

    if plan == "waits in step 3":
        note_steps_and_wait(out, 3)
        train(out / "denoiser", resume=True)
        return
    by_command(out / "command.yaml", store, vae, out / "command")
    run_vae(config, Start(store, out / "vae", device="cpu"))
    survive(train_adversarial, out / "adversarial", 3)
    usual = DenoiserTask.draw, DenoiserTask.batch
    note_leaves(out)
    survive(train, out / "denoiser", 4)
    DenoiserTask.draw, DenoiserTask.batch = usual
    fail_alone_in_rank_0(partial(train, config=short), out)
    fail_in_rank_0_at(1)
    train(out / "failing", config=short)


COMMANDS = app.app

if __name__ == "__main__":
    app.app = lambda: main(sys.argv[1], *map(Path, sys.argv[2:]))  # the command line's way with errors
    app.main()
