"""Benchmarks of photographs, and the table over thresholds."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.errors import ConfigError, DataError
from qdm_med.models.qdm.quadtree import quadtree_mask
from qdm_med.natural import benchmarks
from qdm_med.natural.benchmarks import cases_of, pairs_by_name
from qdm_med.natural.checkpoint import load_natural
from qdm_med.natural.evaluate import NaturalEvaluation, evaluate_natural
from qdm_med.natural.upscale import PhotoOptions, PhotoUpscaler

CPU = torch.device("cpu")


def save(path, rows, columns, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((columns, rows), Image.Resampling.BICUBIC).save(path)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmarks, "SIDE", 128)
    for number in range(2):
        save(tmp_path / "lsdir" / f"{number}.png", 130, 141, number)
    return tmp_path / "lsdir"


def test_lsdir_test_degrades_middles_by_their_own_pixels_and_the_seed(folder):
    first, again = ([*cases_of("lsdir-test", folder, scale=4)] for _ in range(2))
    whole = np.array(Image.open(folder / "0.png"))
    middle = torch.from_numpy(whole[1:129, 6:134]).movedim(-1, 0) / 127.5 - 1
    torch.testing.assert_close(first[0].high_res[0], middle, atol=1e-5, rtol=0)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.low_res.colour, other.low_res.colour)
        assert one.low_res.colour.shape == (32, 32, 3)
    (alone,) = cases_of("lsdir-test", folder, scale=4, every=2)
    assert alone.degradation == first[0].degradation
    (folder / "0.png").unlink()
    (second,) = cases_of("lsdir-test", folder, scale=4)
    assert second.degradation == first[1].degradation
    (other_seed,) = cases_of("lsdir-test", folder, scale=4, seed=1)
    assert other_seed.degradation != second.degradation
    save(folder / "small.png", 90, 140)
    with pytest.raises(DataError, match=r"small\.png: has 90x140 pixels, less than 128"):
        list(cases_of("lsdir-test", folder, scale=4))


def test_realsr_finds_pairs_by_file_names_or_folders(tmp_path):
    for name, rows in (("Canon_001_LR4", 10), ("Canon_001_HR", 40)):
        save(tmp_path / "marked" / f"{name}.png", rows, rows + rows // 10)
    for half, rows in (("test_LR", 10), ("test_HR", 40)):
        save(tmp_path / "folders" / half / "a.png", rows, rows)
    for kind in ("marked", "folders"):
        (case,) = cases_of("realsr", tmp_path / kind, scale=4)
        assert case.low_res.size[0] == 10
        assert case.high_res.shape[-2] == 40
        (reference,) = cases_of("realset80", tmp_path / kind / "test_HR", scale=4) if kind == "folders" else (case,)
        assert reference.high_res is None or kind == "marked"
    with pytest.raises(DataError, match="are not a 2th"):
        list(cases_of("realsr", tmp_path / "marked", scale=2))


def test_pairs_that_are_none_are_named(tmp_path):
    paths = [tmp_path / "LR" / "a.png", tmp_path / "HR" / "b.png"]
    with pytest.raises(DataError, match="has no other half; 2 of 2"):
        pairs_by_name(paths)
    with pytest.raises(DataError, match="is it LR or HR"):
        pairs_by_name([tmp_path / "a.png"])
    with pytest.raises(DataError, match="has the same name"):
        pairs_by_name([tmp_path / "LR" / "a.png", tmp_path / "LR" / "a.webp"])
    with pytest.raises(ConfigError, match="known: lsdir-test, realsr, realset80"):
        next(cases_of("lsdir", tmp_path, scale=4))


@pytest.fixture
def nothing_blind(monkeypatch):
    for package in ("pyiqa", "brisque.brisque"):
        monkeypatch.setitem(sys.modules, package, None)


@pytest.mark.usefixtures("nothing_blind")
def test_the_command_sweeps_thresholds_into_one_table(run, folder, natural_checkpoint, tmp_path):
    common = ("eval", "--benchmark", "lsdir-test", "--data", folder, "--checkpoint", natural_checkpoint)
    code, told, err = run(*common, "--sweep-threshold", "0,0.3,2", "--out", tmp_path / "table8")
    assert (code, err) == (0, "")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in told.splitlines()
        if "|" in line
    }
    heads = rows.pop("method")
    assert heads[:4] == ["active leaves", "windows", "MAC", "s"]
    assert heads[4:] == ["psnr_y", "ssim_y"]
    assert "pip install pyiqa" in told
    assert "non-commercial" in told
    assert "pip install 'qdm-med[brisque]'" in told
    densities = [float(rows[f"natural-tiny, s = {s}"][0].rstrip("%")) for s in ("0", "0.3", "2")]
    assert densities[0] == 100
    assert densities == sorted(densities, reverse=True)
    macs = [float(rows[f"natural-tiny, s = {s}"][2].split()[0]) for s in ("0", "0.3", "2")]
    assert macs[0] >= macs[1] >= macs[2] > 0
    scores = json.loads((tmp_path / "table8" / "scores.json").read_text())
    assert {score["method"] for score in scores} == {"bicubic", *(f"natural-tiny, s = {s}" for s in ("0", "0.3", "2"))}
    mean = np.mean([score["figures"]["psnr_y"] for score in scores if score["method"] == "bicubic"])
    assert rows["bicubic"][4] == f"{mean:.2f}"
    assert (tmp_path / "table8" / "table.md").read_text().startswith("lsdir-test, 2 photographs")


def test_scores_are_those_of_what_upscale_makes(folder, natural_checkpoint):
    checkpoint = load_natural(natural_checkpoint)
    found = evaluate_natural(folder, checkpoint, NaturalEvaluation("lsdir-test", every=2), device=CPU)
    (case,) = cases_of("lsdir-test", folder, scale=4, every=2)
    made = np.concatenate(list(PhotoUpscaler(checkpoint, PhotoOptions(), device=CPU).bands(case.low_res)))
    truth = (case.high_res[0].movedim(0, -1).numpy() + 1) / 2
    weights = np.array([65.481, 128.553, 24.966])
    error = (np.rint(made * 255) / 255 @ weights) - (truth @ weights)
    assert found.scores[1].figures["psnr_y"] == pytest.approx(10 * np.log10(255**2 / np.mean(error**2)), abs=1e-3)


def test_at_threshold_zero_every_leaf_is_active_flat_ones_too():
    """The paper's Table 8 has 99.41 % at s = 0, as a strict comparison would have: flat blocks have a range of 0."""
    low_res = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2 - 1
    low_res[..., :16, :16] = 1.0  # a burnt-out sky
    assert quadtree_mask(low_res, (64, 64), threshold=0.0).all()
    strict = quadtree_mask(low_res, (64, 64), threshold=torch.finfo(torch.float32).tiny)
    assert float(strict.float().mean()) == 1 - 64 / 64**2


@pytest.mark.usefixtures("nothing_blind")
def test_what_cannot_be_evaluated_is_refused(run, folder, natural_checkpoint, tmp_path):
    common = ("eval", "--benchmark", "lsdir-test", "--data", folder)
    for extra, code, reason in (
        ((), 2, "needs a natural-image checkpoint"),
        (("--checkpoint", natural_checkpoint, "--steps", "1,2"), 2, "takes one number of --steps"),
        (("--checkpoint", natural_checkpoint, "--fidelity"), 2, "--fidelity mean nothing on benchmarks of photographs"),
        (("--checkpoint", natural_checkpoint, "--steps", "99"), 1, "steps must lie between"),
    ):
        found, _, err = run(*common, *extra)
        assert found == code
        assert reason in " ".join(err.replace("│", " ").split())
    save(tmp_path / "set80" / "a.png", 20, 20)
    with pytest.raises(DataError, match="nothing of realset80 can be measured"):
        evaluate_natural(
            tmp_path / "set80", load_natural(natural_checkpoint), NaturalEvaluation("realset80"), device=CPU
        )
    with pytest.raises(ConfigError, match="is unknown"):
        NaturalEvaluation("lsdir")
