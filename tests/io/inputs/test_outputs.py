"""Where the output goes: taken, not writable, inside the input, the tool's own output as input."""

from __future__ import annotations

import os
import stat

import pytest


def test_a_file_in_the_output_s_place_is_refused_and_stays(phantom, refused, tmp_path):
    (tmp_path / "out").write_text("precious")
    refused(phantom().write(), told="a file is in the way")
    assert (tmp_path / "out").read_text() == "precious"


def test_a_file_above_the_output_is_refused_and_stays(phantom, refused, tmp_path):
    (tmp_path / "file").write_text("precious")
    refused(phantom().write(), told="is a file, not a folder", out=tmp_path / "file" / "out")


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_a_folder_of_others_is_refused_and_stays(phantom, refused, tmp_path, option):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("precious")
    refused(phantom().write(), *option, told="thesis.tex" if option else "folder is not empty")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "precious"


@pytest.mark.skipif(os.name != "posix", reason="folders have no such permissions here")
def test_a_folder_that_is_not_writable_is_refused(phantom, refused, tmp_path, monkeypatch):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    if os.geteuid() == 0:  # whom permissions do not stop: what the system would say to anybody else
        access = os.access
        monkeypatch.setattr(os, "access", lambda path, mode, **k: str(path) != str(closed) and access(path, mode, **k))
    refused(phantom().write(), told="is not writable", out=closed / "out")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o555


def test_an_earlier_output_is_replaced_only_on_request(phantom, refused, succeeds):
    folder = phantom().write()
    first = {each.SOPInstanceUID for each in succeeds(folder).slices()}
    refused(folder, told="use --overwrite")
    assert not first & {each.SOPInstanceUID for each in succeeds(folder, "--overwrite").slices()}


def test_an_output_inside_the_input_is_written_and_not_read(phantom, attempt):
    folder = phantom().write()
    for option in ((), ("--overwrite",)):
        outcome = attempt(folder, *option, out=folder / "derived")
        assert (outcome.code, len(outcome.slices())) == (0, 3)


@pytest.mark.parametrize("where", ["in", "."])
def test_an_output_that_would_replace_its_input_is_refused(phantom, refused, tmp_path, where):
    phantom().write()
    before = sorted((tmp_path / "in").iterdir())
    refused(tmp_path / "in", "--overwrite", told="replace its own input", out=tmp_path / where)
    assert sorted((tmp_path / "in").iterdir()) == before


def test_our_own_output_is_refused_as_input_unless_forced(phantom, succeeds, refused, attempt, tmp_path):
    derived = succeeds(phantom().write()).place
    again = tmp_path / "again"
    refused(derived, told="made by qdm-med", out=again)
    outcome = attempt(derived, "--force", out=again)
    assert [(each.Rows, each.Columns) for each in outcome.slices()] == [(320, 384)] * 3


def test_a_series_that_is_refused_late_leaves_no_partial_folder(phantom, refused, tmp_path):
    folder = phantom().write(lambda ds, index: setattr(ds, "RescaleSlope", "0") if index == 2 else None)
    refused(folder, told="RescaleSlope 0")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_full_disk_is_refused_before_the_first_slice(phantom, refused, tmp_path, monkeypatch):
    import shutil

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    refused(phantom().write(), told="GiB are free; free some or choose another --out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
