"""The spool: what was taken is on disk under a name of our own, and moves on whole."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pydicom
import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.dicom.file import quiet
from qdm_med.pacs.spool import Spool

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def spool(tmp_path):
    with Spool(tmp_path / "spool") as made:
        yield made


def take_all(spool, folder: Path) -> set[str]:
    return {
        spool.take(path.read_bytes(), sop_class=CT, sop_uid=pydicom.dcmread(path).SOPInstanceUID)
        for path in sorted(folder.iterdir())
    }


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.dcm")}


def test_a_series_is_kept_byte_for_byte_and_moves_into_the_queue_whole(spool, series, tmp_path):
    (key,) = take_all(spool, series)
    job = spool.enqueue(key)
    assert spool.receiving() == []
    assert sorted(path.read_bytes() for path in job.source.iterdir()) == sorted(
        path.read_bytes() for path in series.iterdir()
    )
    assert [(each.number, each.instances()) for each in spool.jobs()] == [(1, 3)]


def test_two_series_are_two_jobs_in_the_order_of_their_coming(spool, series, make_series, tmp_path):
    first = take_all(spool, series)
    second = take_all(spool, make_series(tmp_path / "other", uid="1.2.4"))
    for key in (*first, *second):
        spool.enqueue(key)
    assert [job.number for job in spool.jobs()] == [1, 2]


@pytest.mark.parametrize("uid", ["../../escaped", "/tmp/escaped", "..", "a/b", "1.2.3\0", "CON", "x" * 64])
def test_no_uid_reaches_a_path(spool, make_series, tmp_path, uid):
    folder = make_series(tmp_path / "odd", slices=1, StudyInstanceUID=uid)
    with quiet():
        dataset = pydicom.dcmread(folder / "00.dcm")
        dataset.SeriesInstanceUID = dataset.SOPInstanceUID = uid
        dataset.save_as(folder / "00.dcm")
        announced = str(pydicom.dcmread(folder / "00.dcm").SOPInstanceUID)
    key = spool.take((folder / "00.dcm").read_bytes(), sop_class=CT, sop_uid=announced.strip("\0"))
    (kept,) = files(tmp_path / "spool")
    names = Path(kept).parts
    assert names[:2] == ("receiving", key)
    assert all(set(name.removesuffix(".dcm")) <= set("0123456789abcdef") for name in names[1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["odd", "spool"]


def test_the_same_instance_again_counts_once_and_another_one_under_its_uid_is_refused(spool, series):
    take_all(spool, series)
    take_all(spool, series)
    (key,) = spool.receiving()
    with quiet():
        dataset = pydicom.dcmread(series / "00.dcm")
        dataset.SliceThickness = "9"
        dataset.save_as(series / "00.dcm")
    before = files(spool._root)
    with pytest.raises(SeriesError, match="one SOPInstanceUID"):
        take_all(spool, series)
    assert files(spool._root) == before
    assert spool.enqueue(key).instances() == 3


@pytest.mark.parametrize(
    ("content", "sop_class", "sop_uid", "told"),
    [
        (b"no DICOM", CT, "1.2.3.1", "damaged"),
        (None, "1.2.840.10008.5.1.4.1.1.4", "1.2.3.1", "announced"),
        (None, CT, "1.2.3.9", "announced"),
    ],
)
def test_what_is_not_what_was_announced_is_refused_and_leaves_nothing(spool, series, content, sop_class, sop_uid, told):
    with pytest.raises(SeriesError, match=told):
        spool.take(content or (series / "00.dcm").read_bytes(), sop_class=sop_class, sop_uid=sop_uid)
    assert files(spool._root) == {}


def test_a_full_disk_leaves_nothing_half_written(spool, series, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        take_all(spool, series)
    assert files(spool._root) == {}
    monkeypatch.undo()
    assert len(take_all(spool, series)) == 1


def test_file_and_folders_are_flushed_before_take_returns(spool, series, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (flushed.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    (key,) = take_all(spool, series)
    name = hashlib.sha256(b"1.2.3.1").hexdigest()[:32]
    assert (spool._root / "receiving" / key / f"{name}.dcm").is_file()
    assert Path(flushed[0]).parent.name == "arriving"
    assert flushed[1:3] == [str(spool._root / "receiving" / key), str(spool._root / "receiving")]


def test_a_finished_job_disappears_and_a_failed_one_is_kept_with_the_reason(spool, series, make_series, tmp_path):
    (good,) = take_all(spool, series)
    spool.finish(spool.enqueue(good))
    (bad,) = take_all(spool, make_series(tmp_path / "other", uid="1.2.4"))
    aside = spool.fail(spool.enqueue(bad), "RescaleSlope 0")
    assert list(spool.jobs()) == []
    assert (aside / "reason.txt").read_text() == "RescaleSlope 0\n"
    assert len(list((aside / "source").iterdir())) == 3
    assert set(files(spool._root)) == {f"failed/000002/source/{path.name}" for path in (aside / "source").iterdir()}
    aside.rename(spool._root / "queue" / aside.name)
    assert [job.number for job in spool.jobs()] == [2]


def test_what_a_killed_listener_left_is_found_again(series, tmp_path):
    root = tmp_path / "spool"
    with Spool(root) as spool:
        (key,) = take_all(spool, series)
        spool.enqueue(key)
        take_all(spool, series)
        (root / "arriving" / "half").write_bytes(b"half an instance")
        (root / "trash" / "000009-x").mkdir()
        (root / "queue" / "000007").mkdir()
    with Spool(root) as again:
        assert [job.number for job in again.jobs()] == [1]
        assert again.receiving() == [key]
        assert list((root / "arriving").iterdir()) == list((root / "trash").iterdir()) == []
        assert again.enqueue(key).number > 1


def test_one_listener_at_a_time_has_a_spool(spool, tmp_path):
    with pytest.raises(SeriesError, match="another listener has this spool"):
        Spool(tmp_path / "spool")


def test_a_spool_that_cannot_be_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SeriesError, match="file"):
        Spool(tmp_path / "file")


def test_only_its_owner_may_enter_a_spool(spool, tmp_path):
    assert (tmp_path / "spool").stat().st_mode & 0o077 == 0
