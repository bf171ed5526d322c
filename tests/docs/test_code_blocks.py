"""Code blocks of the docs: Python runs on a small phantom, and every shell line is one that the commands understand."""

from __future__ import annotations

import re

import nibabel
import numpy as np
import pydicom
import pytest
import typer.main
from pydicom.data import get_testdata_file

from qdm_med.cli.app import app
from tests.docs.pages import PAGES, ROOT, blocks, command_lines
from tests.evaluation.phantoms import chest

SHELL = blocks("sh", "bash", "shell")
PYTHON = blocks("python")
GROUP = typer.main.get_command(app)
SIDE = 32
FREE = {
    "make",
    "pip",
    "source",
    "python",
    "srun",
    "torchrun",
    "export",
    "first=$(scontrol",
    "cd",
    "dask",
    "docker",
    "sh",
}
"""Programs of others that shell lines begin with."""


def qdm_med_words(words):
    """What a line says to qdm-med, through torchrun and Slurm too; ``None`` if it does not speak to it."""
    for start in ("qdm-med", "qdm_med.cli.app"):
        if start in words:
            return words[words.index(start) + 1 :]
    return None


def understood(words):
    """Raise where the command line would say that usage is wrong."""
    command, rest = GROUP, list(words)
    try:
        while hasattr(command, "commands"):
            context = command.make_context("qdm-med", rest)
            name, *rest = [*context._protected_args, *context.args]
            assert name in command.commands, f"no such command: {name}"
            command = command.commands[name]
        command.make_context("qdm-med", rest)
    except Exception as error:  # click is part of typer or a package of its own, by version; both say so in this way
        if type(error).__name__ != "Exit":  # --version, --help
            raise AssertionError(f"qdm-med {' '.join(words)}: {getattr(error, 'message', error)}") from error


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_every_shell_line_is_understood(block):
    for words in command_lines(block):
        if (said := qdm_med_words(words)) is not None:
            understood(said)
        else:
            assert words[0] in FREE, f"{block}: {words}"


def test_shell_lines_are_found():
    said = [words for block in SHELL for line in command_lines(block) if (words := qdm_med_words(line))]
    assert {"upscale", "eval", "train", "listen"} <= {words[0] for words in said}


@pytest.mark.parametrize(
    "words",
    [
        ["upscale", "--series", "ct", "--no-such-option"],
        ["upscale", "--series", "ct", "--mode", "best"],
        ["upscale", "--series", "ct", "--scale", "four"],
        ["upscale"],
        ["no-such-command"],
        ["info", "one", "two"],
        ["--quiet", "info", "one", "--no-such-option"],
        ["--no-such-option", "info", "one"],
        ["archive", "no-such-command"],
    ],
)
def test_a_line_that_would_be_refused_is_noticed(words):
    with pytest.raises(AssertionError):
        understood(words)


def test_scripts_that_are_named_exist():
    named = {name for page in PAGES for name in re.findall(r"python -m (tools\.\w+)", page.read_text(encoding="utf-8"))}
    assert "tools.calibrate_uncertainty" in named
    assert [name for name in sorted(named) if not (ROOT / f"{name.replace('.', '/')}.py").is_file()] == []


@pytest.fixture
def sources(tmp_path):
    """``ct_dicom``, one small slice, and ``ct.nii.gz``, two: what the docs call the user's series."""
    hu = chest(SIDE)
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    stored = np.round((hu - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope)).astype(np.int16)
    dataset.PixelData = stored.tobytes()
    dataset.Rows, dataset.Columns = hu.shape
    (tmp_path / "ct_dicom").mkdir()
    dataset.save_as(tmp_path / "ct_dicom" / "slice.dcm")
    volume = np.stack([hu.T, hu.T], axis=-1).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.8, 0.8, 3.0, 1.0])), tmp_path / "ct.nii.gz")
    return tmp_path


@pytest.mark.parametrize("block", PYTHON, ids=str)
def test_every_python_block_runs(block, sources, monkeypatch):
    monkeypatch.chdir(sources)
    exec(compile(block.text, str(block), "exec"), {"__name__": "docs"})


def test_python_blocks_are_found_in_the_readme_and_the_docs():
    assert {"README.md", "use.md", "train.md"} <= {block.page.name for block in PYTHON}
