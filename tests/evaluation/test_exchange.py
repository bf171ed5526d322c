"""Inputs for other programs, and what they made of them: the same pixels out and in, and every fault named."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.benchmarks import BenchmarkOptions, benchmark_cases
from qdm_med.evaluation.cases import manifest_cases
from qdm_med.evaluation.exchange import case_name
from qdm_med.evaluation.methods.recorded import recorded
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint, export_benchmark

CPU = torch.device("cpu")
OPTIONS = BenchmarkOptions("med-sr4", methods=("bicubic",))
VALIDATOR = shutil.which("dciodvfy", path=Path(sys.executable).parent)


@pytest.fixture(scope="module")
def cases(store, checkpoint):
    return list(benchmark_cases(store, store.indices("val"), OPTIONS, checkpoint.card.intensity))


@pytest.fixture(scope="module")
def exported(store, checkpoint, tmp_path_factory):
    out = tmp_path_factory.mktemp("exchange") / "inputs"
    assert export_benchmark(store.path, checkpoint, OPTIONS, out) == 4
    return out


def answers(folder, cases, exported, kind="nii.gz"):
    """The perfect program: it answers with the truth, in a copy of the input's header."""
    folder.mkdir()
    for case in cases:
        name, hu = case_name(case), case.reference_hu
        if kind == "nii.gz":
            given = nib.load(exported / "nifti" / f"{name}.nii.gz")
            nib.save(nib.Nifti1Image(hu.T[:, :, None], given.affine), folder / f"{name}.nii.gz")
        elif kind == "dcm":
            ds = pydicom.dcmread(exported / "dicom" / f"{name}.dcm")
            ds.Rows, ds.Columns = hu.shape
            ds.PixelData = (hu + 1024).astype("<u2").tobytes()
            ds.save_as(folder / f"{name}.dcm")
        else:
            grey = (case.intensity.to_unit(hu) + 1) / 2
            levels = np.rint(grey * (65535 if kind == "png16" else 255))
            pixels = levels.astype(np.uint16) if kind == "png16" else np.stack([levels.astype(np.uint8)] * 3, axis=-1)
            Image.fromarray(pixels).save(folder / f"{name}.png")
    return folder


def test_every_format_holds_what_methods_are_given(cases, exported):
    for case in cases:
        name = case_name(case)
        nifti = nib.load(exported / "nifti" / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(nifti.dataobj)[:, :, 0].T, case.low_hu)
        assert nifti.header.get_zooms() == (4.0, 4.0, 1.0)
        ds = pydicom.dcmread(exported / "dicom" / f"{name}.dcm")
        np.testing.assert_array_equal(ds.pixel_array - 1024.0, np.rint(case.low_hu))
        assert (list(ds.PixelSpacing), ds.PatientID) == ([4, 4], case.record.patient)
        with Image.open(exported / "png" / f"{name}.png") as png:
            levels = np.asarray(png)
        # The benchmark rounds to 8 bits, and 65535 is 257 times 255: an 8-bit reader loses nothing.
        np.testing.assert_array_equal(levels, 257 * np.rint((case.intensity.to_unit(case.low_hu) + 1) * 127.5))


def test_the_list_of_inputs_makes_the_benchmark_again(store, cases, exported):
    listed = json.loads((exported / "inputs.json").read_text())
    again = list(manifest_cases(store, listed))
    assert [case.low_sha256 for case in again] == [case.low_sha256 for case in cases]
    assert [(one["name"], one["wanted_rows"]) for one in listed["cases"]] == [(case_name(case), 64) for case in cases]
    assert "black is -1024 HU, white is 3071 HU" in (exported / "README.txt").read_text()


@pytest.mark.skipif(VALIDATOR is None, reason="dciodvfy of dicom3tools is not installed")
def test_an_exported_image_is_valid_dicom(exported):
    path = next((exported / "dicom").iterdir())
    done = subprocess.run([VALIDATOR, path], capture_output=True, text=True, check=False)
    assert "CTImage" in done.stderr
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


@pytest.mark.parametrize(("kind", "most_hu"), [("nii.gz", 0.0), ("dcm", 0.0), ("png16", 0.05), ("png", 13.0)])
def test_a_perfect_program_is_perfect_up_to_the_rounding_of_its_format(
    store, checkpoint, cases, exported, tmp_path, kind, most_hu
):
    folder = answers(tmp_path / "perfect", cases, exported, kind)
    options = replace(OPTIONS, results=(("perfect", folder),))
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path / "out"))
    errors = [row.scores["mae_hu"] for row in found.rows if row.method == "perfect"]
    assert len(errors) == 4
    assert max(errors) <= most_hu
    assert "| perfect | n/a |" in found.text()
    again = evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path / "out"))
    assert repr(again.rows) == repr(found.rows)


def test_other_results_under_the_same_name_are_another_run(store, checkpoint, cases, exported, tmp_path):
    folder = answers(tmp_path / "perfect", cases, exported)
    options = replace(OPTIONS, results=(("perfect", folder),))
    evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path / "out"))
    path = next(folder.iterdir())
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj) + 1, image.affine), path)
    with pytest.raises(DataError, match="was begun with results"):
        evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path / "out"))


def test_results_can_be_made_as_consistent_as_the_model(store, checkpoint, cases, exported, tmp_path):
    folder = answers(tmp_path / "perfect", cases, exported)
    options = replace(OPTIONS, results=(("perfect", folder),), consistency=("off", "hard"))
    found = evaluate_checkpoint(store.path, checkpoint, options, device=CPU)
    assert {row.method for row in found.rows} == {"bicubic", "perfect", "perfect, consistency hard"}


def test_missing_and_mis_sized_and_turned_results_are_named_before_anything_is_scored(
    store, checkpoint, cases, exported, tmp_path
):
    folder = answers(tmp_path / "bad", cases, exported)
    names = [case_name(case) for case in cases]
    (folder / f"{names[0]}.nii.gz").unlink()
    Image.fromarray(np.zeros((32, 64), dtype=np.uint8)).save(folder / f"{names[1]}.png")
    (folder / f"{names[1]}.nii.gz").unlink()
    turned = nib.load(folder / f"{names[2]}.nii.gz")
    affine = turned.affine @ np.diag([-1, 1, 1, 1])
    nib.save(nib.Nifti1Image(np.asarray(turned.dataobj)[::-1], affine), folder / f"{names[2]}.nii.gz")
    (folder / f"{names[3]}.png").write_bytes(b"no picture")
    options = replace(OPTIONS, results=(("bad", folder),))
    with pytest.raises(DataError) as told:
        evaluate_checkpoint(store.path, checkpoint, options, device=CPU, outputs=Outputs(tmp_path / "out"))
    for words in (
        f"{names[0]} is missing",
        f"{names[1]}.png: is 32 x 64 pixels, not 64 x 64",
        f"{names[2]}.nii.gz: its axes are not those of the input",
        f"{names[3]} is there twice",
    ):
        assert words in str(told.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_or_name_that_does_not_serve_is_refused(store, checkpoint, cases, exported, tmp_path):
    with pytest.raises(DataError, match=r"absent: no such folder; give --results NAME=DIR"):
        recorded("any", tmp_path / "absent", cases)
    folder = answers(tmp_path / "perfect", cases, exported)
    with pytest.raises(ConfigError, match="two methods are called 'bicubic'"):
        evaluate_checkpoint(store.path, checkpoint, replace(OPTIONS, results=(("bicubic", folder),)), device=CPU)
    with pytest.raises(DataError, match="exists; give another --export-inputs"):
        export_benchmark(store.path, checkpoint, OPTIONS, folder)
