"""``qdm-med upscale``: the promised outputs, and nothing written for what it cannot do."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest

from qdm_med.checkpoints.model import load_checkpoint, save_checkpoint
from tests.cli.lines import one_line


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
    assert run(*good, "--strict", "--dry-run") == (1, "", err)
    code, told, before = run(*good, "--dry-run")
    assert code == 0
    assert "trained on 2 to 3" in one_line(before)
    assert "source noise in HU " in told
    code, told, before = run(*good)
    assert code == 0
    assert sum("trained on" in line for line in told.splitlines()) == 1
    assert "trained on 2 to 3" in one_line(before)


def test_the_noise_of_the_source_stands_in_its_header_and_in_the_json_of_both_runs(run, series, checkpoint, tmp_path):
    good = (
        "upscale",
        "--series",
        series,
        "--checkpoint",
        checkpoint,
        "--steps",
        1,
        "--out",
        tmp_path / "out",
        "--json",
    )
    foreseen = json.loads(run(*good, "--dry-run")[1])
    done = json.loads(run(*good)[1])
    assert foreseen["measured"] == done["measured"]
    ((name, value),) = (one for one in done["measured"] if one[0] == "source noise in HU")
    (written,) = (tmp_path / "out").iterdir()
    assert f"{name} {value}" in pydicom.dcmread(written).DerivationDescription


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
