"""``qdm-med eval`` on the command line: what it prints and writes, and one line for what it cannot do."""

from __future__ import annotations

import base64
import functools
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.checkpoints.model import ModelCard, load_checkpoint, save_checkpoint
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER
from tests.stores import blocky, write_store

NO_LPIPS = "no LPIPS column: give --lpips-backbone; `qdm-med lpips` makes the file from torchvision's weights\n"


@pytest.fixture
def run_eval(run):
    """Run ``qdm-med eval``: exit code, stdout, stderr."""
    return functools.partial(run, "eval")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Options that name a store of two slices and a tiny model."""
    folder = tmp_path_factory.mktemp("given")
    write_store(folder / "store", ((blocky(number), "val", str(number)) for number in range(2)))
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    card = ModelCard("tiny", autoencoder, denoiser, scales=(4, 8), steps=(1, 1))
    save_checkpoint(folder / "tiny.safetensors", card, KlVae(autoencoder), TwoStreamDenoiser(denoiser))
    return ("--data", folder / "store", "--checkpoint", folder / "tiny.safetensors")


def test_tables_go_to_stdout_files_to_the_folder_and_the_report_is_written(run_eval, given, tmp_path):
    wishes = ("--methods", "bicubic,qdm", "--out", tmp_path / "out", "--report", tmp_path / "report.html")
    code, told, err = run_eval("--benchmark", "med-sr8", *given, *wishes)
    assert (code, err) == (0, NO_LPIPS)
    assert told.startswith("med-sr8, val split: 2 slices of 2 patients")
    assert "| psnr_db ↑ | " in told
    assert ", held against bicubic:\n- " in told
    assert told.endswith("qdm-med eval --glossary\n")
    assert "QDM-L (published)" in told
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "benchmark.json", "cases.jsonl", "receipt.json", "summary.json",
    }  # fmt: skip
    assert "qdm-med eval --benchmark med-sr8" in (tmp_path / "report.html").read_text()


def test_the_same_command_again_runs_nothing_and_tells_the_same(run_eval, given, tmp_path):
    command = ("--benchmark", "med-sr4", *given, "--out", tmp_path / "out")
    first, second = run_eval(*command), run_eval(*command)
    assert first == second
    assert first[0] == 0


def test_a_sweep_prints_its_table_first(run_eval, given):
    code, told, _ = run_eval("--benchmark", "med-sr4", *given, "--sweep-threshold", "0,0.3")
    assert code == 0
    table = told.split("\n\n")[2].splitlines()
    assert table[0].startswith(
        "| threshold s | steps | active leaves | active windows | MAC of the diffusion | with autoencoder |"
    )
    assert [line.split(" | ")[0] for line in table[2:]] == ["| 0", "| 0.3"]
    counted = told.split("\n\n")[4].splitlines()
    assert counted[0].startswith("| threshold s | active leaves | active windows | QDM-S | with autoencoder | QDM-B |")


def test_a_further_model_is_compared_and_costs_are_counted(run_eval, given, tmp_path):
    tested = load_checkpoint(given[-1])
    card = replace(tested.card, name="other", training={"patient_keys": []})
    save_checkpoint(tmp_path / "other.safetensors", card, tested.autoencoder, tested.denoiser)
    wishes = ("--methods", "qdm", "--latent-model", tmp_path / "other.safetensors", "--steps", "1,2", "--macs")
    code, told, _ = run_eval("--benchmark", "med-sr4", *given, *wishes)
    assert code == 0
    cost = told[told.index("| method | s a slice |") :].splitlines()[2:]
    names = [line.split(" | ")[0] for line in cost if line.startswith("|")]
    assert names == [f"| {model}, {steps} steps, s = 0.15" for model in ("tiny", "other") for steps in (1, 2)]
    assert all(float(line.split(" | ")[-1].rstrip(" |")) > 0 for line in cost if line.startswith("|"))
    assert "Threshold ablation" not in told


def test_inputs_are_exported_and_what_a_program_made_of_them_is_scored(run_eval, given, tmp_path):
    code, told, _ = run_eval("--benchmark", "med-sr4", *given, "--export-inputs", tmp_path / "inputs")
    assert (code, told) == (0, f"{tmp_path / 'inputs'}: inputs of 2 slices; its README.txt says what to do with them\n")
    (tmp_path / "other").mkdir()
    for path in (tmp_path / "inputs" / "png").iterdir():
        with Image.open(path) as image:
            larger = np.kron(np.asarray(image), np.ones((4, 4), dtype=np.uint16))
        Image.fromarray(larger).save(tmp_path / "other" / path.name)
    wishes = ("--methods", "bicubic", "--results", f"nearest={tmp_path / 'other'}")
    code, told, err = run_eval("--benchmark", "med-sr4", *given, *wishes)
    assert (code, err) == (0, NO_LPIPS)
    assert "| mean over patients (95 %) | bicubic | nearest |" in told


def test_inputs_are_written_again_from_the_list_of_a_run_of_another_seed(run_eval, given, tmp_path):
    run_eval("--benchmark", "med-sr4", *given, "--seed", "7", "--methods", "bicubic", "--out", tmp_path / "out")
    run_eval("--benchmark", "med-sr4", *given, "--seed", "7", "--export-inputs", tmp_path / "first")
    listed = tmp_path / "out" / "benchmark.json"
    wishes = ("--again", listed, "--export-inputs", tmp_path / "second")
    code, told, err = run_eval("--benchmark", "med-sr4", *given, *wishes)
    assert (code, err) == (0, "")
    assert told.startswith(f"{tmp_path / 'second'}: inputs of 2 slices")
    first, second = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "png").iterdir()} for name in ("first", "second")
    )
    assert first == second
    run_eval("--benchmark", "med-sr4", *given, "--export-inputs", tmp_path / "seed-0")
    assert first != {path.name: path.read_bytes() for path in (tmp_path / "seed-0" / "png").iterdir()}
    code, _, err = run_eval("--benchmark", "med-sr8", *given, "--again", listed, "--export-inputs", tmp_path / "x8")
    assert (code, err) == (1, f"qdm-med: {listed} is of med-sr4; give --benchmark med-sr4\n")
    code, _, err = run_eval("--benchmark", "med-sr4", *given, "--again", listed)
    assert code == 2
    assert "--again" in err


def test_a_sheet_of_all_methods_is_written_and_shown_in_the_report(run_eval, given, tmp_path):
    sheet, report = tmp_path / "sheet.png", tmp_path / "report.html"
    wishes = ("--methods", "bicubic,lanczos", "--sheet", sheet, "--report", report)
    assert run_eval("--benchmark", "med-sr4", *given, *wishes)[0] == 0
    assert base64.b64encode(sheet.read_bytes()).decode() in report.read_text()


@pytest.mark.parametrize(
    ("wishes", "named"),
    [
        (("--split", "test"), "no slice in split 'test'"),
        (("--methods", "bicubic,magic"), "method 'magic' is unknown"),
        (("--lpips-backbone", "absent.npz"), "absent.npz: no LPIPS backbone can be read"),
        (("--image-model", "absent.pth"), "absent.pth: no such weights"),
        (("--latent-model", "absent.safetensors"), "absent.safetensors: no such checkpoint"),
        (("--threshold", "3"), "threshold must lie in [0, 2]"),
        (("--degradation", "worse"), "degradation 'worse' is unknown; known: paper, clinical, scanner"),
        (("--degrade-in", "space"), "degrade_in must be network or window"),
        (("--report", "."), "is a folder"),
        (("--sheet", "."), "is a folder; give the name of a file for --sheet"),
        (("--sheet-boxes", "boxes.csv"), "boxes are drawn on a sheet; give --sheet too"),
        (("--sheet", "s.png", "--sheet-boxes", "absent.csv"), "absent.csv: cannot be read"),
        (("--results", "other=absent"), "absent: no such folder; give --results NAME=DIR"),
    ],
)
def test_bad_wishes_end_in_one_line_and_write_nothing(run_eval, given, tmp_path, monkeypatch, wishes, named):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_eval("--benchmark", "med-sr4", *given, "--out", "out", *wishes)
    assert (code, out) == (1, "")
    assert named in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_other_results_is_refused_in_one_line(run_eval, given, tmp_path):
    assert run_eval("--benchmark", "med-sr4", *given, "--out", tmp_path, "--methods", "bicubic")[0] == 0
    code, out, err = run_eval("--benchmark", "med-sr8", *given, "--out", tmp_path, "--methods", "bicubic")
    assert (code, out) == (1, "")
    assert "was begun with benchmark 'med-sr4', now it is 'med-sr8'" in err
    assert err.count("\n") == 1


def test_a_result_without_a_name_is_wrong_usage(run_eval, given):
    assert run_eval("--benchmark", "med-sr4", *given, "--results", "folder")[0] == 2


def test_words_where_numbers_belong_are_wrong_usage(run_eval, given):
    assert run_eval("--benchmark", "med-sr4", *given, "--sweep-threshold", "low")[0] == 2


def test_the_glossary_needs_nothing_and_runs_nothing(run):
    code, told, _ = run("eval", "--glossary")
    assert code == 0
    assert "  mae_hu ↓: mean absolute error of the slice in HU; lower is better\n" in told
    assert "  mtf50_ratio → 1: " in told


def test_the_report_shows_as_many_slices_as_are_wanted(run_eval, given, tmp_path):
    for wanted, shown in ((1, 1), (0, 2)):
        report = tmp_path / f"{wanted}.html"
        wishes = ("--methods", "bicubic", "--no-fidelity", "--report", report, "--report-slices", wanted)
        assert run_eval("--benchmark", "med-sr8", *given, *wishes)[0] == 0
        assert report.read_text().count("<option value=") == shown
        assert 'href="#column-mae_hu"' in report.read_text()
        assert '<dt id="column-mae_hu">mae_hu ↓</dt>' in report.read_text()
