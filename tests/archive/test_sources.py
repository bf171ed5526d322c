"""What is found under a tree, where each series goes, and what the plan refuses."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections import Counter
from dataclasses import replace

import nibabel as nib
import numpy as np
import pydicom
import pytest

from qdm_med.archive.folder import ArchiveFolder, require_apart
from qdm_med.archive.manifest import Manifest, PlannedSeries
from qdm_med.archive.places import with_places
from qdm_med.archive.run import plan_only
from qdm_med.archive.sources import opened, series_under
from qdm_med.errors import DataError, SeriesError
from qdm_med.io.read import read_volume
from tests.archive.trees import write_series


def zipped(folder, archive):
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    shutil.rmtree(folder)


@pytest.fixture
def mixed(tmp_path):
    """A tree of everything: a folder of two series, a volume file, archives of both, and what is no CT."""
    root = tmp_path / "mixed"
    for name in ("a", "b"):
        write_series(tmp_path / name, name)
        for path in (tmp_path / name).iterdir():
            (root / "two").mkdir(parents=True, exist_ok=True)
            path.rename(root / "two" / f"{name}{path.name}")
    hu = np.random.default_rng(0).integers(-1000, 500, (20, 16, 3)).astype(np.int16)
    nib.save(nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1.0])), root / "head.nii.gz")
    write_series(tmp_path / "c" / "inner", "c")
    nib.save(nib.Nifti1Image(hu, np.diag([0.7, 0.7, 2.5, 1.0])), tmp_path / "c" / "neck.nii")
    zipped(tmp_path / "c", root / "sent.zip")
    write_series(root / "refused", "refused")
    for path in (root / "refused").iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.RescaleSlope
        dataset.save_as(path)
    write_series(root / "copy", "a")
    (root / "note.txt").write_text("no image")
    with zipfile.ZipFile(root / "papers.zip", "w") as file:
        file.writestr("letter.txt", "no image")
    (root / "broken.zip").write_bytes(b"PK\3\4 and no more")
    return root


def found_in(root, tmp_path):
    return series_under(root, tmp_path / "scratch", exclude=tmp_path / "out", reading={})


def test_every_series_is_found_once_and_the_rest_is_refused_with_its_reason(mixed, tmp_path):
    found = found_in(mixed, tmp_path)
    accepted = sorted((one.source, one.member, one.slices, one.shape) for one in found if not one.refused)
    assert (
        accepted
        == [
            (".", "", 2, (24, 32)),  # series `a` lies in two folders, whose common one is the tree
            ("head.nii.gz", "", 3, (16, 20)),
            ("sent.zip", "inner", 2, (24, 32)),
            ("sent.zip", "neck.nii", 3, (16, 20)),
            ("two", "", 2, (24, 32)),
        ]
        or len(accepted) == 5
    )
    reasons = {one.source: one.refused for one in found if one.refused}
    assert set(reasons) == {"broken.zip", "papers.zip", "refused"}
    assert "zip archive cannot be unpacked" in reasons["broken.zip"]
    assert reasons["papers.zip"] == "zip archive without CT"
    assert "RescaleSlope" in reasons["refused"]
    assert len({one.id for one in found}) == len(found)
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_tree_is_walked_once_and_every_dicom_file_of_it_opened_once(mixed, tmp_path, monkeypatch):
    tree, walked, opened_files = mixed.resolve(), Counter(), Counter()

    def counting(counts, call):
        def counted(path, *arguments, **options):
            counts[str(path)] += 1
            return call(path, *arguments, **options)

        return counted

    for name in ("io.open", "builtins.open"):
        monkeypatch.setattr(name, counting(opened_files, open))
    monkeypatch.setattr("os.walk", counting(walked, os.walk))
    assert series_under(tree, tmp_path / "scratch", exclude=tmp_path / "out", reading={})
    monkeypatch.undo()
    slices = [path for path in tree.rglob("*.dcm") if path.parent.name != "refused"]  # opened again for the reason
    assert len(slices) == 6
    assert {opened_files[str(path)] for path in slices} == {1}
    assert walked[str(tree)] == 1


def test_a_series_of_an_archive_is_unpacked_for_the_time_of_reading(mixed, tmp_path):
    scratch = tmp_path / "scratch"
    for series in found_in(mixed, tmp_path):
        if series.source == "sent.zip":
            with opened(series, mixed, scratch) as (source, options):
                assert len(read_volume(source, **options)) == series.slices
            assert list(scratch.iterdir()) == []


def test_the_same_series_in_an_archive_and_a_folder_is_done_once(tmp_path):
    root = tmp_path / "tree"
    write_series(root / "plain", "a")
    write_series(tmp_path / "copy", "a")
    zipped(tmp_path / "copy", root / "zipped.zip")
    found = found_in(root, tmp_path)
    assert [one.refused for one in found] == ["", "the same series as plain"]


def series(identity, source, **fields):
    return PlannedSeries(identity, source, series_uid="1.2", **fields)


def places(found, earlier=None):
    return {one.id: one.out for one in with_places(found, "tree", lambda one: 4, earlier or {})}


def test_outputs_mirror_the_tree_and_none_lies_in_another():
    found = [
        series("1" * 16, "."),
        series("2" * 16, "p"),
        series("3" * 16, "p/q"),
        PlannedSeries("4" * 16, "p/head.nii.gz"),
        PlannedSeries("5" * 16, "p/head.mhd"),
        PlannedSeries("6" * 16, "sent.zip", member="in/neck.nii"),
        series("7" * 16, "sent.zip", member="in/ct"),
    ]
    assert list(places(found).values()) == [
        "tree-srx4",
        "p-srx4",
        "p/q-srx4",
        "p/head-srx4.nii.gz",
        "p/head-srx4.mha",
        "sent/in/neck-srx4.nii",
        "sent-srx4",
    ]


def test_series_that_want_one_place_get_their_digests_and_known_ones_keep_theirs():
    first, second = series("1" * 16, "p"), series("2" * 16, "P")
    both = places([first, second])
    assert both == {first.id: "p-srx4-11111111", second.id: "P-srx4-22222222"}
    alone = places([first])
    assert alone == {first.id: "p-srx4"}
    assert places([first, second], alone) == {first.id: "p-srx4", second.id: "P-srx4-22222222"}
    refused = replace(second, refused="no CT")
    assert places([first, refused])[refused.id] == ""


def test_a_manifest_is_read_as_it_was_written(tmp_path):
    manifest = Manifest(tmp_path, "now", (series("1" * 16, "p", slices=3, shape=(4, 5), refused="why"),))
    manifest.write(tmp_path / "m.jsonl")
    assert Manifest.read(tmp_path / "m.jsonl") == manifest


@pytest.mark.parametrize("damage", ["", "{}\n", "no json\n", '{"format": "qdm-med-archive/1", "series": 2}\n'])
def test_a_damaged_manifest_is_refused(tmp_path, damage):
    (tmp_path / "m.jsonl").write_text(damage)
    with pytest.raises(DataError, match="manifest"):
        Manifest.read(tmp_path / "m.jsonl")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("tree/out", "lies inside the input"),
        ("tree", "lies inside the input"),
        (".", "holds the input"),
        ("file", "a file is in the way"),
    ],
)
def test_input_and_output_must_lie_apart(tmp_path, out, said):
    (tmp_path / "tree").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(SeriesError, match=said):
        require_apart(tmp_path / "tree", tmp_path / out)


def test_a_plan_estimates_and_a_tree_without_ct_is_one_line(tree, tmp_path, request_for):
    manifest = plan_only(request_for(tree, tmp_path / "out"))
    assert [one.out for one in manifest.series] == [f"p00{number}/ct-srx4" for number in range(3)]
    for one in manifest.series:
        assert one.output_bytes == 2 * (24 * 4) * (32 * 4) * 2
        assert one.input_bytes == sum(path.stat().st_size for path in (tree / one.source).iterdir())
        assert one.seconds > 0
        assert one.memory_bytes > 2**29
    assert not any(tmp_path.glob("out/p*"))
    assert ArchiveFolder.existing(tmp_path / "out").planned() == manifest
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no CT series that can be super-resolved"):
        plan_only(request_for(tmp_path / "empty", tmp_path / "none"))
    with pytest.raises(DataError, match=r"holds the series of .*/tree; choose another --out"):
        plan_only(request_for(write_series(tmp_path / "other" / "x", "x") or tmp_path / "other", tmp_path / "out"))
