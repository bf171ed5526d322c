"""The command line: help at once, one line for bad input, nothing written, the promised outputs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file

from qdm_med.checkpoint import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.models.autoencoder import AutoencoderConfig, KlVae
from qdm_med.models.denoiser import PRESETS, TwoStreamDenoiser

COMMANDS = ("upscale", "info", "send", "listen", "prepare", "train-vae", "train", "eval", "convert")


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    autoencoder = AutoencoderConfig(latent_channels=2, channels=(8, 16), res_blocks=(1, 1))
    denoiser = replace(PRESETS["t"], latent_channels=2, hidden=16, depth=1, heads=2, trunk_channels=8)
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    networks = KlVae(autoencoder), TwoStreamDenoiser(denoiser)
    with torch.no_grad():
        networks[1].read_out.weight.normal_(std=0.1)  # zero at the start: noise would not show
    save_checkpoint(path, ModelCard("tiny", autoencoder, denoiser), *networks)
    return path


@pytest.fixture
def series(tmp_path):
    """A folder with the CT slice that pydicom carries, made small."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    dataset.PixelData = np.ascontiguousarray(dataset.pixel_array[40:72, 40:80]).tobytes()
    dataset.Rows, dataset.Columns = 32, 40
    folder = tmp_path / "series"
    folder.mkdir()
    dataset.save_as(folder / "slice.dcm")
    return folder


def one_line(text):
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


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
def test_every_command_has_help_for_every_option_and_stands_in_the_readme(command, run):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert "--help" in out
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text()
    assert f"qdm-med {command}" in readme


def test_upscale_writes_a_derived_series_and_one_line(run, series, checkpoint, tmp_path):
    out = tmp_path / "out"
    code, told, err = run("upscale", "--series", series, "--out", out, "--scale", 4, "--checkpoint", checkpoint)
    assert (code, err) == (0, "")
    assert "1 slices at x4" in told
    written = [pydicom.dcmread(path) for path in sorted(out.iterdir())]
    assert [(slice_.Rows, slice_.Columns) for slice_ in written] == [(128, 160)]
    assert written[0].ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert "tiny" in written[0].DerivationDescription


def test_two_runs_with_one_seed_give_identical_pixels(run, series, checkpoint, tmp_path):
    pixels = []
    for name, further in (("a", ()), ("b", ("--tile", 64)), ("c", ("--seed", 1, "--threshold", 0))):
        code, _, err = run(
            "upscale", "--series", series, "--out", tmp_path / name, "--checkpoint", checkpoint, *further
        )
        assert code == 0, err
        pixels.append(pydicom.dcmread(next((tmp_path / name).iterdir())).PixelData)
    assert pixels[0] == pixels[1]
    assert pixels[0] != pixels[2]


def test_upscale_prints_json_for_machines(run, series, checkpoint, tmp_path):
    _, told, _ = run("upscale", "--series", series, "--out", tmp_path / "out", "--checkpoint", checkpoint, "--json")
    summary = json.loads(told)
    assert summary["slices"] == 1
    assert 0 <= summary["active_leaves"] <= 1
    assert summary["out"] == str(tmp_path / "out")


def test_a_dry_run_tells_the_work_and_writes_nothing(run, series, checkpoint, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    good = ("upscale", "--series", series, "--checkpoint", checkpoint, "--out", tmp_path / "out", "--dry-run")
    code, told, err = run(*good)
    assert (code, err) == (0, "")
    assert "1 slices of 32x40 at x4" in told
    assert "nothing was written" in told
    told = json.loads(run(*good, "--json")[1])
    assert told["windows"] <= told["windows_in_all"]
    assert told["output_bytes"] == 2 * 128 * 160
    assert sorted(tmp_path.rglob("*")) == before


def test_pictures_explain_the_quadtree_beside_the_run(run, series, checkpoint, tmp_path):
    good = ("upscale", "--series", series, "--checkpoint", checkpoint, "--quadtree", "adaptive")
    pictures = ("--explain-quadtree", tmp_path / "why", "--noise-factor", 2)
    assert run(*good, *pictures, "--out", tmp_path / "out")[0] == 0
    assert [path.name for path in (tmp_path / "why").iterdir()] == ["00001.png"]
    assert (tmp_path / "out").is_dir()
    code, _, err = run(*good, *pictures, "--out", tmp_path / "other")
    assert code == 1
    assert "why" in err
    assert not (tmp_path / "other").exists()


def test_the_quadtree_is_recorded_in_the_output(run, series, checkpoint, tmp_path):
    good = ("upscale", "--series", series, "--checkpoint", checkpoint, "--quadtree", "adaptive", "--threshold", 0.2)
    assert run(*good, "--out", tmp_path / "out")[0] == 0
    written = pydicom.dcmread(next((tmp_path / "out").iterdir()))
    assert "mode balanced" in written.DerivationDescription
    assert "quadtree adaptive" in written.DerivationDescription
    assert "threshold 0.2" in written.DerivationDescription


def test_nifti_in_nifti_out(run, checkpoint, tmp_path):
    source = tmp_path / "ct.nii.gz"
    hu = np.random.default_rng(0).integers(-1000, 500, (20, 16, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1.0])), source)
    code, _, err = run("upscale", "--series", source, "--scale", 8, "--checkpoint", checkpoint)
    assert code == 0, err
    result = nib.load(tmp_path / "ct-srx8.nii.gz")
    assert result.shape == (160, 128, 3)
    np.testing.assert_allclose(result.header.get_zooms(), (0.1, 0.1, 2.5), rtol=1e-6)


@pytest.mark.parametrize("scale", [4, 8])
def test_a_converted_release_runs_in_upscale(run, series, golden_path, tmp_path, scale):
    ours = tmp_path / "ours.safetensors"
    sources = (
        "--denoiser",
        golden_path / "qdm_tiny.safetensors",
        "--autoencoder",
        golden_path / "aekl_tiny.safetensors",
    )
    code, _, err = run("convert", *sources, "--heads", 4, "--scale", scale, "--out", ours)
    assert code == 0, err
    code, _, err = run(
        "upscale", "--series", series, "--scale", scale, "--checkpoint", ours, "--out", tmp_path / "out", "--steps", 2
    )
    assert code == 0, err


@pytest.mark.parametrize(
    ("name", "uid"),
    [
        ("explicit", "1.2.840.10008.1.2.1"),
        ("rle", "1.2.840.10008.1.2.5"),
        ("jpeg-ls", "1.2.840.10008.1.2.4.80"),
        ("jpeg-2000", "1.2.840.10008.1.2.4.90"),
        ("htj2k", "1.2.840.10008.1.2.4.201"),
    ],
)
def test_the_transfer_syntax_of_the_output_can_be_chosen(run, series, checkpoint, tmp_path, name, uid):
    good = ("--checkpoint", checkpoint, "--steps", 1, "--out", tmp_path / "out", "--transfer-syntax", name)
    code, _, err = run("upscale", "--series", series, *good)
    assert (code, err) == (0, "")
    (written,) = (pydicom.dcmread(path) for path in (tmp_path / "out").iterdir())
    assert written.file_meta.TransferSyntaxUID == uid
    assert written.pixel_array.shape == (128, 160)


def test_bad_slices_are_skipped_on_request_and_told(run, series, checkpoint, tmp_path):
    (series / "cut.dcm").write_bytes((series / "slice.dcm").read_bytes()[:700])
    good = ("upscale", "--series", series, "--checkpoint", checkpoint, "--steps", 1, "--out", tmp_path / "out")
    code, _, err = run(*good)
    assert code == 1
    assert "cut.dcm" in one_line(err)
    code, told, err = run(*good, "--skip-bad")
    assert (code, err) == (0, "")
    (warning,) = (line for line in told.splitlines() if line.startswith("warning: skipped"))
    assert "1 slices or files that cannot be read" in warning
    assert "cut.dcm" in warning
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_a_series_unlike_the_training_is_warned_of_and_refused_if_strict(run, series, checkpoint, tmp_path):
    narrow = tmp_path / "narrow.safetensors"
    model = load_checkpoint(checkpoint)
    card = replace(model.card, training={"domain": {"pixel_spacing_mm": [2, 3], "matrix": [16, 512]}})
    save_checkpoint(narrow, card, model.autoencoder, model.denoiser)
    good = ("upscale", "--series", series, "--checkpoint", narrow, "--steps", 1, "--out", tmp_path / "out")
    code, out, err = run(*good, "--strict")
    assert (code, out) == (1, "")
    assert "pixel spacing in mm 0.6615 (trained on 2 to 3); use a model" in one_line(err)
    assert not (tmp_path / "out").exists()
    code, told, _ = run(*good)
    assert code == 0
    assert sum("trained on" in line for line in told.splitlines()) == 1


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
        "transfer syntax": (("upscale", "--series", series, "--transfer-syntax", "jpeg", *good), "transfer_syntax"),
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
    "transfer syntax",
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
    for name in ("kind", "slices", "matrix", "spacing mm", "gaps mm", "tilt", "kernel", "kVp", "encoding", "use"):
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
    assert re.search(r"^  2  refused: .*other\.dcm: RescaleSlope None: .*; restore the header$", told, re.MULTILINE)
    assert "CompressedSamples" not in told  # the patient's name


def test_info_describes_a_checkpoint_and_a_series(run, series, checkpoint):
    _, told, _ = run("info", checkpoint)
    assert "tiny" in told
    _, told, _ = run("info", series, "--json")
    described = json.loads(told)["series"]
    assert len(described) == 1
    assert "CompressedSamples" not in told  # the patient's name


def test_uncertainty_and_report_are_written_beside_the_series(run, series, checkpoint, tmp_path):
    good = ("upscale", "--series", series, "--checkpoint", checkpoint, "--out", series / "out", "--steps", 1)
    extras = ("--samples", 2, "--uncertainty", "--report", tmp_path / "page" / "report.html")
    code, told, err = run(*good, *extras)
    assert (code, err) == (0, "")
    assert f"uncertainty: {series / 'out-uncertainty'}" in told
    (image,), (spread,) = (
        [pydicom.dcmread(path) for path in (series / n).iterdir()] for n in ("out", "out-uncertainty")
    )
    assert spread.pixel_array.shape == image.pixel_array.shape
    assert spread.pixel_array.any()
    text = (tmp_path / "page" / "report.html").read_text()
    assert "mean of 2 samples" in text
    assert str(image.PatientName) not in text
    assert str(tmp_path) not in text
    code, _, err = run(*good, *extras)
    assert code == 1
    assert "report.html: exists; choose another --report or use --overwrite" in one_line(err)
    code, told, err = run(*good, *extras, "--overwrite", "--json")  # neither map nor series is taken for a source
    assert (code, err) == (0, "")
    assert json.loads(told)["uncertainty"] == str(series / "out-uncertainty")


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        (("--uncertainty",), "uncertainty needs at least 2 samples, got 1; add --samples 4"),
        (("--uncertainty", "--dry-run"), "uncertainty needs at least 2 samples"),
        (("--report", "page.txt"), "give --report a name that ends in .html"),
    ],
)
def test_extras_that_cannot_be_are_one_line_and_write_nothing(run, series, checkpoint, tmp_path, extra, said):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("upscale", "--series", series, "--checkpoint", checkpoint, "--out", tmp_path / "out", *extra)
    assert (code, out) == (1, "")
    assert said in one_line(err)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_volume_file_gets_its_uncertainty_in_its_format(run, checkpoint, tmp_path):
    source = tmp_path / "ct.nii"
    hu = np.random.default_rng(0).integers(-1000, 500, (20, 16, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1.0])), source)
    extras = ("--mode", "faithful", "--uncertainty", "--report", tmp_path / "r.html")
    code, _, err = run("upscale", "--series", source, "--checkpoint", checkpoint, *extras)
    assert (code, err) == (0, "")
    spread, result = (nib.load(tmp_path / f"ct-srx4{name}.nii") for name in ("-uncertainty", ""))
    assert (spread.get_data_dtype(), result.get_data_dtype()) == (np.float32, np.int16)
    np.testing.assert_array_equal(spread.affine, result.affine)
    assert np.asarray(spread.dataobj).max() > 0
    assert "nifti, 2 slices of 16 x 20 pixels" in (tmp_path / "r.html").read_text()
