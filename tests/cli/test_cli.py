"""The command line: help at once, and one line for bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

from qdm_med._version import __version__
from tests.cli.lines import one_line

COMMANDS = ("lpips", "upscale", "info", "send", "listen", "prepare", "train-vae", "train", "eval", "convert")


@pytest.mark.parametrize("arguments", [["--help"], ["upscale", "--help"]])
def test_help_answers_at_once_because_it_imports_nothing_heavy(arguments):
    program = (
        "import sys; from qdm_med.cli import app; sys.argv = ['qdm-med', *sys.argv[1:]]\n"
        "try: app.main()\n"
        "finally: sys.stderr.write(' '.join({'torch', 'monai', 'pydicom'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True)
    assert "--help" in done.stdout
    assert not {"torch", "monai", "pydicom"} & set(done.stderr.split())


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_for_every_option_and_stands_in_the_documentation(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--help" in out
    root = Path(__file__).resolve().parents[2]
    pages = [root / "README.md", *(root / "docs").glob("*.md")]
    assert any(f"qdm-med {command}" in page.read_text() for page in pages)


def bad_calls(series, checkpoint, tmp_path):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(checkpoint.read_bytes()[:1000])
    junk = tmp_path / "junk"
    junk.mkdir()
    (junk / "a.txt").write_text("no image")
    config = tmp_path / "bad.yaml"
    config.write_text("name: x\nloop: {stepz: 1}\n")
    good = ("--checkpoint", checkpoint, "--out", tmp_path / "out")
    return {
        "missing folder": (("upscale", "--series", tmp_path / "absent", *good), "absent"),
        "no CT": (("upscale", "--series", junk, *good), "junk"),
        "output not empty": (("upscale", "--series", series, "--checkpoint", checkpoint, "--out", full), "full"),
        "other scale": (("upscale", "--series", series, "--scale", 3, *good), "x3"),
        "truncated": (
            ("upscale", "--series", series, "--checkpoint", truncated, "--out", tmp_path / "out"),
            "truncated",
        ),
        "absent checkpoint": (
            ("upscale", "--series", series, "--checkpoint", "no.safetensors", "--out", "o"),
            "no.safetensors",
        ),
        "memory": (("upscale", "--series", series, "--max-memory", 0.01, *good), "--max-memory"),
        "noise factor": (("upscale", "--series", series, "--noise-factor", 2, *good), "adaptive"),
        "steps": (("upscale", "--series", series, "--steps", 99, *good), "99"),
        "device": (("upscale", "--series", series, "--device", "abacus", *good), "abacus"),
        "config key": (("train-vae", "--data", junk, "--config", config, "--out", tmp_path / "run"), "stepz"),
        "no store": (("eval", "--benchmark", "med-sr4", "--data", junk, "--checkpoint", checkpoint), "junk"),
        "benchmark": (("eval", "--benchmark", "med-sr5", "--data", junk, "--checkpoint", checkpoint), "med-sr5"),
        "info": (("info", tmp_path / "absent"), "absent"),
        "convert": (
            ("convert", "--denoiser", "no.pth", "--autoencoder", "no.pth", "--out", tmp_path / "out"),
            "no.pth",
        ),
        "prepare": (("prepare", "--sources", junk, "--out", tmp_path / "store"), "junk"),
    }


CASES = [
    "missing folder", "no CT", "output not empty", "other scale", "truncated", "absent checkpoint", "steps", "device", "memory", "noise factor",
    "config key", "no store", "benchmark", "info", "convert", "prepare",
]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_that_names_it_and_nothing_is_written(
    run, series, checkpoint, tmp_path, case, monkeypatch
):
    calls = bad_calls(series, checkpoint, tmp_path)
    assert set(calls) == set(CASES)
    monkeypatch.chdir(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    arguments, named = calls[case]
    code, out, err = run(*arguments)
    assert (code, out) == (1, "")
    assert named in one_line(err)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_wrong_usage_exits_with_two(run):
    assert run("upscale")[0] == 2
    assert run("nonsense")[0] == 2
    assert run("upscale", "--series", "x", "--scale", "four")[0] == 2
    assert run("upscale", "--series", "x", "--quadtree", "octree")[0] == 2
    assert run("upscale", "--series", "x", "--precision", "float8")[0] == 2
    assert run("upscale", "--series", "x", "--transfer-syntax", "jpeg")[0] == 2


def test_info_lays_series_out_in_a_table_for_people(run, series):
    dataset = pydicom.dcmread(series / "slice.dcm")
    for number, place in enumerate((-70.7, -60.7), start=1):
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        dataset.ImagePositionPatient[2] = place
        dataset.save_as(series / f"{number}.dcm")
    dataset.SeriesInstanceUID, dataset.SOPInstanceUID, dataset.ConvolutionKernel = "1.2.4", "1.2.3.9", "B[red]70"
    del dataset.RescaleSlope
    dataset.save_as(series / "other.dcm")
    (series / "notes.txt").write_text("no image")
    code, told, err = run("info", series)
    assert (code, err) == (0, "")
    heading, *_ = (line for line in told.splitlines() if line.strip())
    assert heading.split("  ")[0].strip() == ""
    for name in (
        "patient",
        "study",
        "no.",
        "description",
        "kind",
        "slices",
        "matrix",
        "spacing mm",
        "gaps mm",
        "tilt",
        "kernel",
        "kVp",
        "encoding",
        "use",
    ):
        assert name in heading
    rows = [line for line in told.splitlines() if line.lstrip()[:3] in ("1  ", "2  ", "3  ")]
    good, refused, other = rows[:3]
    assert all(cell in good for cell in ("CT Image Storage", " 3 ", "32x40", "0.6615 x 0.6615", "5 to 10", "120"))
    assert "Explicit VR Little Endian" in good
    assert good.split()[-1] == "yes"
    assert refused.split()[-1] == other.split()[-1] == "no"
    assert "B[red]70" in refused
    assert "not DICOM" in other
    assert "  1  warning: 2 of 2 slice gaps differ" in told
    assert "  2  SeriesInstanceUID 1.2.4" in told
    assert re.search(r"^  2  refused: .*other\.dcm: RescaleSlope absent: .*; restore the header$", told, re.MULTILINE)
    assert "CompressedSamples" not in told  # the patient's name


def test_info_describes_a_checkpoint_and_a_series(run, series, checkpoint):
    _, told, _ = run("info", checkpoint)
    assert "tiny" in told
    assert "soft tissue (40 HU): 419" in told
    assert "contrast medium (300 HU): 6291" in told
    _, told, _ = run("info", series, "--json")
    described = json.loads(told)["series"]
    assert len(described) == 1
    assert "CompressedSamples" not in told  # the patient's name


def test_the_version_is_told(run):
    code, out, err = run("--version")
    assert (code, out.strip(), err) == (0, f"qdm-med {__version__}", "")


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_help_is_one_letter_away_for_every_command(run, command):
    code, out, _ = run(*command, "-h")
    assert code == 0
    assert out == run(*command, "--help")[1]


def test_the_help_tells_exit_codes_and_sorts_options_into_panels(run):
    told = " ".join(run("--help")[1].split())
    assert "2 wrong usage" in told
    assert "--install-completion" in told
    upscale = run("upscale", "--help")[1]
    assert all(panel in upscale for panel in ("Quality", "Source and its units", "DICOM output", "Performance"))
