"""Files and folders appear whole or not at all."""

from __future__ import annotations

import pytest

from qdm_med.files import whole_file, whole_folder, write_text, write_whole


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    with whole_file(tmp_path / "a.txt") as partial:
        partial.write_text("whole")
        assert names(tmp_path) == [".a.txt.partial"]
    assert names(tmp_path) == ["a.txt"]
    write_text(tmp_path / "a.txt", "\u00e4nother")
    assert (tmp_path / "a.txt").read_bytes() == "\u00e4nother".encode()


def test_an_error_leaves_the_file_that_was_there(tmp_path):
    write_text(tmp_path / "a.txt", "before")

    def fail(file):
        file.write(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "a.txt", fail)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "before"


def test_a_folder_appears_when_it_is_whole_over_an_empty_one_but_over_no_other(tmp_path):
    (tmp_path / "out").mkdir()
    with whole_folder(tmp_path / "out") as partial:
        write_text(partial / "one", "1")
        assert names(tmp_path / "out") == []
    assert names(tmp_path / "out") == ["one"]
    with pytest.raises(OSError, match="not empty"), whole_folder(tmp_path / "out") as partial:
        write_text(partial / "two", "2")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["one"]


def test_an_error_leaves_no_folder_and_what_a_killed_run_left_is_forgotten(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "old").touch()
    with pytest.raises(ValueError, match="broken"), whole_folder(tmp_path / "out") as partial:
        assert names(partial) == []
        raise ValueError("broken")
    assert names(tmp_path) == []
