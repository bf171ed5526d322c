"""``qdm-med compare`` on the command line: one line for what it cannot do; what it does is tested with the trainings."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, "comparison.yaml: No such file or directory"),
        ("members: []\n", "members must begin with the network under test"),
        ("members:\n  - {model: gan, config: x.yaml}\n", "model: must be one of qdm, resshift, ldm, rrdb, swinir"),
        ("members:\n  - {model: qdm, config: x.yaml}\nhours: 1\n", "unknown hours"),
        ("members:\n  - {model: qdm, config: x.yaml}\n", "x.yaml: No such file or directory"),
    ],
)
def test_a_comparison_that_cannot_be_read_ends_in_one_line(run, tmp_path, content, named):
    path = tmp_path / "comparison.yaml"
    if content is not None:
        path.write_text(content)
    given = ("--data", tmp_path / "store", "--vae", tmp_path / "vae.safetensors", "--out", tmp_path / "out")
    code, out, err = run("compare", path, *given)
    assert (code, out) == (1, "")
    assert named in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_made_ends_in_one_line_before_anything_is_trained(run, tmp_path):
    (tmp_path / "file").write_text("")
    config = Path(__file__).resolve().parents[2] / "configs" / "comparisons" / "t.yaml"
    given = ("--data", tmp_path / "store", "--vae", tmp_path / "vae.safetensors")
    for out in (tmp_path / "file", tmp_path / "file" / "runs"):
        code, _, err = run("compare", config, *given, "--out", out)
        assert code == 1
        assert f"{out} cannot be made" in err
        assert err.count("\n") == 1


def test_results_without_a_name_are_wrong_usage(run, tmp_path):
    given = ("--data", tmp_path, "--vae", tmp_path / "v", "--out", tmp_path / "out", "--results", "folder")
    assert run("compare", tmp_path / "comparison.yaml", *given)[0] == 2
