"""Archives on a grid of the operator's choice, and settings that came later: earlier archives keep their keys."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from qdm_med.archive import work
from qdm_med.archive.cluster import Wanted
from qdm_med.archive.folder import ArchiveFolder
from qdm_med.archive.making import Maker
from qdm_med.archive.manifest import Manifest
from qdm_med.archive.receipt import read_receipt
from qdm_med.archive.request import Request
from qdm_med.archive.run import plan_only, run_archive
from qdm_med.archive.settings import Settings
from qdm_med.archive.verify import verify_archive
from qdm_med.errors import ConfigError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.matrix import Grid
from qdm_med.io.options import WriterOptions
from qdm_med.io.read import read_volume
from qdm_med.resample import area_mean
from tests.archive.conftest import OPTIONS
from tests.archive.trees import write_series

EARLIER = Settings(
    UpscaleOptions(steps=1, tile=64),
    "tiny",
    "0" * 64,
    device="cpu",
    writing=WriterOptions(transfer_syntax="rle"),
    versions={"qdm_med": "0.1.0", "torch": "2.0.0"},
)


@pytest.fixture
def tree(tmp_path):
    """Three series of 24 x 32, 48 x 48 and 10 x 12 pixels."""
    for name, rows, columns in (("coarse", 24, 32), ("fine", 48, 48), ("tiny", 10, 12)):
        write_series(tmp_path / "tree" / name, name, rows=rows, columns=columns)
    return tmp_path / "tree"


@pytest.fixture
def made(tree, tmp_path, request_for):
    """What a worker makes of every series that the plan of a grid accepts."""

    def made(grid, **others):
        request = request_for(tree, tmp_path / "out", grid=grid, **others)
        manifest = plan_only(request)
        folder = ArchiveFolder(request.out)
        settings = replace(request.settings, device="cpu")
        folder.require_settings(settings)
        maker = Maker(request.tree, folder, settings, request.upscalers())
        for one in manifest.accepted:
            maker.make(one, lambda done, total, ct_slice: None)
        return SimpleNamespace(request=request, manifest=manifest, folder=folder, maker=maker)

    return made


def hu_of(path):
    one = pydicom.dcmread(path)
    return one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept)


def test_an_archive_that_was_begun_without_a_grid_keeps_its_key():
    # The digest was computed before settings knew grids and --rescale-type-is-hu.
    assert EARLIER.key == "e5aefe9b4b304feb48aa8bfb87911de5afcb533a3dcb0a638a2ef4c4166a0f94"
    assert "spacing" not in EARLIER.stated
    assert "rescale_type_is_hu" not in EARLIER.stated
    assert EARLIER.stated["matrix"] is None


@pytest.mark.parametrize(
    "other",
    [{"grid": Grid(matrix=64)}, {"grid": Grid(matrix=65)}, {"grid": Grid(spacing=0.5)}, {"rescale_type_is_hu": True}],
)
def test_settings_are_read_as_they_were_stated_and_each_changes_the_key(other):
    settings = replace(EARLIER, **other)
    assert settings.key != EARLIER.key
    again = Settings.of_stated(json.loads(json.dumps(settings.stated)))
    assert again == settings
    assert again.key == settings.key


def test_the_magnification_is_no_setting_where_a_grid_decides_it(tree, tmp_path, checkpoint):
    def settings(scale, grid):
        options = replace(OPTIONS, scale=scale)
        return Request.of(tree, tmp_path / "out", checkpoint, options, "cpu", grid=grid).settings

    assert settings(4, Grid(matrix=64)).key == settings(8, Grid(matrix=64)).key
    assert settings(4, Grid()).key != settings(8, Grid()).key
    # What all magnifications share is stated with its default, and what each has for itself is not.
    stated = settings(4, Grid(matrix=64)).stated
    assert (stated["mode"], stated["steps"], stated["tile"]) == ("balanced", 1, None)


def test_a_plan_refuses_what_cannot_be_brought_to_the_grid_and_tells_what_the_rest_becomes(tree, tmp_path, request_for):
    manifest = plan_only(request_for(tree, tmp_path / "out", grid=Grid(matrix=120)))
    found = {one.source: one for one in manifest.series}
    coarse, fine, tiny = found["coarse"], found["fine"], found["tiny"]
    assert (coarse.out, coarse.matrix) == ("coarse-srx4", (90, 120))
    assert (fine.out, fine.matrix) == ("fine-srx4", (120, 120))
    assert tiny.refused == "a matrix of 100x120 is more than 8 times 10x12; ask for at most 96"
    assert (coarse.output_bytes, fine.output_bytes) == (2 * 90 * 120 * 2, 2 * 120 * 120 * 2)
    assert ArchiveFolder(tmp_path / "out").planned() == manifest
    by_scale = plan_only(request_for(tree, tmp_path / "other", grid=Grid(matrix=80)))
    assert [one.out for one in by_scale.series] == ["coarse-srx4", "fine-srx4", "tiny-srx8"]
    assert by_scale.series[2].memory_bytes > 0
    coarser = plan_only(request_for(tree, tmp_path / "third", grid=Grid(matrix=40)))
    assert [bool(one.refused) for one in coarser.series] == [False, True, False]
    assert coarser.series[1].refused == "--matrix 40: would be coarser than the source, 48x48; ask for more pixels"


def test_series_come_out_on_the_grid_at_their_own_magnification_with_a_receipt_that_says_so(made):
    archive = made(Grid(matrix=80))
    for name, scale, shape in (("coarse", 4, (60, 80)), ("tiny", 8, (67, 80))):
        out = archive.folder.out / f"{name}-srx{scale}"
        volume = read_volume(archive.request.tree / name)
        upscaler = archive.maker.upscalers.at(scale)
        for index, path in enumerate(sorted(out.iterdir())):
            whole = upscaler.upscale_slice(volume.slices[index], volume.provenance.series_key)
            np.testing.assert_allclose(hu_of(path), area_mean(whole.hu, shape), atol=0.51)
        record = read_receipt(out).record
        assert (record["scale"], record["matrix"]) == (scale, list(shape))
        stated = record["settings"]
        assert (stated["scale"], stated["matrix"], stated["tile"]) == (scale, 80, upscaler.options.tile)
        assert stated["steps"] == 1


def test_slices_on_a_grid_are_verified_and_a_changed_one_is_found(made, checkpoint):
    archive = made(Grid(matrix=80))
    found = verify_archive(archive.folder, checkpoint, slices=9, seed=0, device="cpu")
    assert (found.series, found.slices, found.differences) == (3, 6, ())
    path = archive.folder.out / "tiny-srx8" / "00001.dcm"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    found = verify_archive(archive.folder, checkpoint, slices=9, seed=0, device="cpu")
    assert "tiny-srx8: slice 1 comes out differently in 1 pixels, by up to 1 HU" in found.differences


def test_a_worker_reports_a_series_that_turns_out_not_to_fit_and_leaves_nothing(made):
    archive = made(Grid(matrix=80))
    write_series(archive.request.tree / "fine", "fine", rows=128, columns=128)  # grown since the plan
    archive.maker.folder.out.joinpath("fine-srx4").rename(archive.request.out / "away")
    job = work.Job(
        *(archive.request.tree, archive.request.out, archive.maker.settings, archive.request.checkpoint, "cpu")
    )
    outcome = work.super_resolve(job, archive.manifest.series[1])
    assert outcome.state == "failed"
    assert outcome.reason == "--matrix 80: would be coarser than the source, 128x128; ask for more pixels"
    assert not (archive.request.out / "fine-srx4").exists()


def test_a_plan_of_another_grid_is_made_anew_by_the_run(tree, tmp_path, request_for):
    out = tmp_path / "out"
    assert len(plan_only(request_for(tree, out, grid=Grid(matrix=40))).accepted) == 2
    summary = run_archive(request_for(tree, out, grid=Grid(matrix=80)), Wanted(workers=1, threads=1))
    assert (summary.made, summary.refused, summary.failed) == (3, 0, {})
    assert {path.name for path in out.glob("*-srx?")} == {"coarse-srx4", "fine-srx4", "tiny-srx8"}
    other = request_for(tree, out, grid=Grid(spacing=0.5))
    refused = pytest.raises(ConfigError, match=r"matrix was 80, is None; spacing was None, is 0\.5\)")
    with refused:
        run_archive(other, Wanted(workers=1, threads=1))
    with refused:
        plan_only(other)
    again = request_for(tree, out, grid=Grid(matrix=80), writing=WriterOptions(transfer_syntax="rle"))
    assert len(plan_only(again).accepted) == 3  # a plan is not asked how files are written


def test_a_plan_that_does_not_say_what_it_was_asked_is_followed(tree, tmp_path, request_for):
    request = request_for(tree, tmp_path / "out")
    path = ArchiveFolder(request.out).manifest
    plan_only(request)
    head, *rest = path.read_text().splitlines(keepends=True)
    earlier = {name: value for name, value in json.loads(head).items() if name != "asked"}
    path.write_text("".join([json.dumps(earlier) + "\n", *rest]))
    assert Manifest.read(path).is_asked_with(request.settings.planning)


def test_another_rescale_type_is_refused_until_it_is_said_to_be_hu(made, tree, request_for, tmp_path, checkpoint):
    for path in (tree / "coarse").iterdir():
        dataset = pydicom.dcmread(path)
        dataset.RescaleType = "US"
        dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["us"])
        dataset.save_as(path)
    refused = [one for one in plan_only(request_for(tree, tmp_path / "refused")).series if one.refused]
    assert [one.source for one in refused] == ["coarse"]
    assert "RescaleType US" in refused[0].refused
    archive = made(Grid(), rescale_type_is_hu=True)
    assert not any(one.refused for one in archive.manifest.series)
    receipt = read_receipt(archive.folder.out / "coarse-srx4")
    assert receipt.record["settings"]["rescale_type_is_hu"] is True
    assert any("RescaleType US is read as HU" in line for line in receipt.record["warnings"])
    assert verify_archive(archive.folder, checkpoint, slices=9, seed=0, device="cpu").differences == ()


def test_uncertainty_of_one_sample_is_one_line_before_the_scan(tree, tmp_path, request_for):
    with pytest.raises(ConfigError, match="uncertainty needs at least 2 samples, got 1"):
        request_for(tree, tmp_path / "out", uncertainty=True)


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--matrix", 64, "--spacing", 0.5), 1, "give either --matrix or --spacing"),
        (("--spacing", -1), 1, "--spacing -1: give millimetres, more than 0"),
        (("--matrix", 5), 1, "3 were refused, the first: --matrix 5: would be coarser than the source, 24x32"),
        (("--matrix", 0), 2, "--matrix"),
    ],
)
def test_a_grid_that_cannot_be_is_one_line_and_plans_nothing(run, tree, tmp_path, checkpoint, options, code, said):
    ended, out, err = run("archive", "plan", tree, "--out", tmp_path / "out", "--checkpoint", checkpoint, *options)
    assert (ended, out) == (code, "")
    assert said in err
    assert code == 2 or len(err.splitlines()) == 1
    assert not (tmp_path / "out" / ".qdm-med-archive" / "manifest.jsonl").exists()
