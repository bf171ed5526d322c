"""How much the commands say: nothing more than results for programs, lines with the time on request, bars for people."""

from __future__ import annotations

import re
from datetime import datetime

import pytest

from qdm_med.cli.talk import TALK, Lines

STAMP = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d "


@pytest.fixture(autouse=True)
def _as_it_was():
    yield
    TALK.begin(quiet=False, verbose=False, log_file=None)


def test_verbose_tells_stages_and_slices_with_the_time_where_there_is_no_terminal(run, series, checkpoint, tmp_path):
    code, told, err = run(
        "--verbose", "upscale", "--series", series, "--out", tmp_path / "out", "--checkpoint", checkpoint
    )
    assert code == 0
    lines = err.splitlines()
    assert all(re.match(STAMP, line) for line in lines)
    words = [line.split(" ", 1)[1] for line in lines]
    assert words[:3] == ["loading the model", f"reading {series}", "0 of 1 slices"]
    assert words[-1].startswith("1 of 1 slices, windows ")
    assert "1 slices at x4" in told


def test_a_log_file_gets_call_progress_result_and_error_and_is_added_to(run, series, checkpoint, tmp_path):
    log = tmp_path / "qdm.log"
    good = ("--log-file", log, "upscale", "--series", series, "--out", tmp_path / "out", "--checkpoint", checkpoint)
    code, _, err = run(*good)
    assert (code, err) == (0, "")
    assert run(*good)[0] == 1
    text = log.read_text()
    assert all(re.match(STAMP, line) for line in text.splitlines())
    for part in ("upscale --series", "1 of 1 slices", "1 slices at x4 in", "error: ", "folder is not empty"):
        assert part in text
    assert text.count("upscale --series") == 2


def test_a_log_file_that_cannot_be_written_is_one_line(run, tmp_path):
    code, _, err = run("--log-file", tmp_path / "absent" / "log", "info", tmp_path)
    assert code == 1
    assert "--log-file" in err
    assert err.count("\n") == 1


def test_the_time_left_follows_from_what_was_done_since_the_beginning(monkeypatch, capsys):
    TALK.begin(quiet=False, verbose=True, log_file=None)
    now = [100.0]
    monkeypatch.setattr("qdm_med.cli.talk.time.monotonic", lambda: now[0])
    lines = Lines("slices")
    for seconds, done in ((0, 4.0), (3, 4.5), (60, 7.0), (90, 10.0)):
        now[0] = 100.0 + seconds
        lines.update(done, 10, "")
    told = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert told == ["4 of 10 slices", "7 of 10 slices, about 1 min 0 s left", "10 of 10 slices"]


def test_what_is_counted_anew_has_its_own_beginning(monkeypatch):
    told, now = [], [0.0]
    monkeypatch.setattr("qdm_med.cli.talk.time.monotonic", lambda: now[0])
    lines = Lines("steps", told.append)
    for seconds, done in ((0, 0.0), (100, 10.0), (101, 0.0), (121, 5.0)):
        now[0] = seconds
        lines.update(done, 10)
    assert told == ["0 of 10 steps", "10 of 10 steps", "0 of 10 steps", "5 of 10 steps, about 0 min 20 s left"]


def test_a_line_within_a_slice_says_how_much_of_all_is_done():
    told = []
    Lines("slices", told.append).update(1.5, 4)
    assert told == ["1 of 4 slices (38%)"]


def test_every_tile_of_every_sample_is_told(checkpoint):
    import numpy as np

    from qdm_med.inference.options import UpscaleOptions
    from qdm_med.inference.upscaler import load_upscaler
    from qdm_med.volume import CtSlice

    hu = np.random.default_rng(0).normal(0, 300, (40, 70)).astype(np.float32)
    shares: list[float] = []
    for samples, uncertainty in ((1, False), (2, True)):
        options = UpscaleOptions(tile=32, threshold=0.0, samples=samples, steps=1)
        upscaler = load_upscaler(checkpoint, options, device="cpu")
        upscaler.told = shares.append
        shares.clear()
        upscaler.upscale_slice(CtSlice(hu, np.zeros(hu.shape, bool), 0.0), "s", uncertainty=uncertainty)
        assert len(shares) > 3
        assert shares == sorted(shares)
        assert shares[-1] == 1


def test_the_time_in_a_line_is_local_and_says_its_offset(run, tmp_path):
    log = tmp_path / "log"
    run("--log-file", log, "info", tmp_path)
    stamp = datetime.fromisoformat(log.read_text().split(" ")[0])
    assert abs((datetime.now().astimezone() - stamp).total_seconds()) < 60
