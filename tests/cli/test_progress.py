"""Progress of the long commands, and what Ctrl-C says."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest

from qdm_med.cli.progress import CountProgress
from qdm_med.cli.talk import TALK

STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d "


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    TALK.begin(quiet=False, verbose=False, log_file=None)


def words(text):
    """Lines without their time; each must have one."""
    lines = text.splitlines()
    assert all(re.match(STAMP, line) for line in lines), text
    return [line.split(" ", 1)[1] for line in lines]


def test_training_tells_steps_and_losses_from_the_first_to_the_last(run, tmp_path):
    log = tmp_path / "log"
    code, out, err = run("-v", "--log-file", log, "train-vae", "--out", tmp_path / "run")
    assert code == 0
    told = words("\n".join(line for line in err.splitlines() if "smoke test" not in line))
    assert told[0] == "0 of 20 steps"
    assert re.fullmatch(r"20 of 20 steps, loss [\d.]+(, .*)?", told[-1])
    assert out.splitlines()[0].startswith("training vae-smoke: step 0 of 20")
    assert out.splitlines()[-1].startswith("trained vae-smoke: 20 steps")
    assert words(log.read_text())[1:] == [out.splitlines()[0], *told, out.splitlines()[-1]]


def test_the_steps_that_are_expected_follow_from_the_time_that_a_step_takes():
    from qdm_med.training.loop import LoopConfig, Trainer

    trainer = Trainer.__new__(Trainer)
    trainer.config, trainer.step, trainer.cpu_seconds = LoopConfig(steps=1000, cpu_minutes=1.0), 5, 3.0
    assert trainer.expected_steps() == 100  # 0.6 s a step, 60 s
    trainer.config = LoopConfig(steps=50, cpu_minutes=1.0)
    assert trainer.expected_steps() == 50
    trainer.config, trainer.cpu_seconds = LoopConfig(steps=1000, cpu_minutes=0.01), 3.0
    assert trainer.expected_steps() == 5


def test_preparing_tells_series_and_slices(run, tmp_path, monkeypatch):
    import nibabel
    import numpy as np

    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name in "ab":
        hu = rng.normal(0, 300, (512, 512, 2)).astype(np.int16)
        nibabel.Nifti1Image(hu, np.diag([0.7, 0.7, 3, 1.0])).to_filename(tmp_path / "in" / f"{name}.nii")
    seen = []
    monkeypatch.setattr(CountProgress, "update", lambda self, *state: seen.append(state))
    code, out, _ = run("-v", "prepare", "--sources", tmp_path / "in", "--out", tmp_path / "store")
    assert code == 0
    assert [done for done, *_ in seen] == [0, 0.5, 1.0, 1.5, 2.0]  # slices of a volume file, too
    assert {total for _, total, _ in seen} == {2}
    assert seen[-1][2] == "4 slices"
    assert "4 slices of 2 series" in out


@contextmanager
def terminal(monkeypatch):
    """A progress bar that believes in a terminal."""
    monkeypatch.setattr(type(TALK), "bars", property(lambda self: True))
    yield CountProgress("steps")


def test_the_bar_comes_with_the_first_count_gives_way_to_results_and_ends_with_the_last(monkeypatch, capsys):
    with terminal(monkeypatch) as bar, bar as steps:
        live = steps._bar.live
        assert not live.is_started
        steps.update(0, 3)
        assert live.is_started
        steps.say("a result")
        assert not live.is_started
        steps.update(1, 3)
        assert live.is_started
        steps.update(3, 3)
        steps.say("the end")
        steps.update(3, 3)
        assert not live.is_started
        steps.update(0, 3)  # another run
        assert live.is_started
        assert steps._bar.tasks[0].completed == 0
        steps.update(3, 3)
    assert capsys.readouterr().out.splitlines() == ["a result", "the end"]


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("place", "command", "told"),
    [
        (
            "qdm_med.data.store.prepare.prepare_slices",
            ("prepare", "--sources", ".", "--out", "store"),
            "start the same command again to resume",
        ),
        ("qdm_med.training.runs.run_vae", ("train-vae", "--out", "run", "--data", "store"), "again with --resume"),
        (
            "qdm_med.evaluation.run.evaluate_checkpoint",
            ("eval", "--benchmark", "med-sr4", "--data", "store"),
            "with --out DIR",
        ),
    ],
)
def test_an_interrupted_command_says_in_one_line_how_it_goes_on(run, monkeypatch, tmp_path, place, command, told):
    monkeypatch.setattr(place, interrupted)
    log = tmp_path / "log"
    code, _, err = run("--log-file", log, *command)
    assert code == 130
    assert err.splitlines()[-1].startswith("qdm-med: interrupted; ")
    assert told in err.splitlines()[-1]
    assert told in log.read_text()
