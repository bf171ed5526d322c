"""Slice stores made on a cluster: the same bytes as alone, whoever converts and whatever dies."""

from __future__ import annotations

import os
import signal
import threading

import nibabel as nib
import numpy as np
import pytest

from qdm_med.archive.cluster import Wanted
from qdm_med.archive.ordered import Stop
from qdm_med.archive.store import ClusterConversion, Part, _Convert, part_name
from qdm_med.data.store.conversion import PARTS, converted, references
from qdm_med.data.store.prepare import prepare_slices
from qdm_med.data.store.sources import find_sources
from qdm_med.errors import ClusterError, DataError
from tests.archive.conftest import members, wait_for
from tests.archive.trees import write_series

CT = {"rows": 512, "columns": 512}


def nobody(event):
    """Hear nothing."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Series of CT: whole, with a slice that is cut short, small, twice; and a volume of 520 x 520."""
    root = tmp_path_factory.mktemp("sources") / "ct"
    for number in range(3):
        write_series(root / f"p{number}", f"patient-{number}", **CT)
    write_series(root / "cut", "cut", slices=3, **CT)
    file = root / "cut" / "001.dcm"
    file.write_bytes(file.read_bytes()[:-1000])
    write_series(root / "small", "small", rows=32)
    (root / "again").mkdir()
    for file in (root / "p1").iterdir():
        (root / "again" / file.name).write_bytes(file.read_bytes())
    hu = np.random.default_rng(0).integers(-1000, 1000, (13, 13, 2)).astype(np.int16)
    nib.save(nib.Nifti1Image(np.kron(hu, np.ones((40, 40, 1), np.int16)), np.diag([0.5, 0.5, 2, 1])), root / "a.nii")
    return root


@pytest.fixture(scope="module")
def alone(sources, tmp_path_factory):
    """The store that one process makes, and what it says."""
    out = tmp_path_factory.mktemp("alone") / "store"
    return out, prepare_slices(sources, out, shard_size=3)


def contents(store):
    return {path.relative_to(store).as_posix(): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def assert_same(store, report, alone):
    assert contents(store) == contents(alone[0])
    assert report.left_out == alone[1].left_out
    assert (report.slices, report.patients, report.resampled) == (
        alone[1].slices,
        alone[1].patients,
        alone[1].resampled,
    )


def test_the_tree_holds_what_a_cluster_could_get_wrong(alone):
    reasons = [one.reason for one in alone[1].left_out]
    assert any("smaller than 512" in reason for reason in reasons)
    assert any("unreadable" in reason for reason in reasons)
    assert alone[1].resampled == 2
    assert sum(alone[1].slices.values()) >= 9


@pytest.mark.slow
def test_a_cluster_makes_the_store_that_one_process_makes(sources, alone, tmp_path):
    out, seen = tmp_path / "store", []
    converting = ClusterConversion(Wanted(workers=2, threads=1), sources, out)
    report = prepare_slices(sources, out, shard_size=3, converting=converting, progress=lambda *now: seen.append(now))
    assert_same(out, report, alone)
    counts, totals = [done for done, _, _ in seen], {total for _, total, _ in seen}
    assert counts == sorted(counts)
    assert totals == {counts[-1]}


def test_a_worker_tells_of_its_slices_but_not_of_each(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("qdm_med.archive.store.REPORT_SECONDS", 0.0)
    series = next(one for one in find_sources(sources).series if one.label.endswith("a.nii"))
    told = []
    _Convert(sources, tmp_path)(series, told.append)
    assert told == [{"first_file": series.first_file, "share": share} for share in (0.5, 1.0)]
    monkeypatch.setattr("qdm_med.archive.store.REPORT_SECONDS", 3600.0)
    told.clear()
    Part(tmp_path, part_name(series)).remove()
    _Convert(sources, tmp_path)(series, told.append)
    assert told == [{"first_file": series.first_file, "share": 1.0}]


@pytest.mark.slow
def test_a_worker_that_is_killed_changes_no_byte(sources, alone, tmp_path):
    out = tmp_path / "store"
    before = set(members(os.getpgrp()))

    def kill_one():
        wait_for(lambda: list((out / PARTS).glob("*")))
        os.kill(next(pid for pid in members(os.getpgrp()) if pid not in before and is_worker(pid)), signal.SIGKILL)

    killing = threading.Thread(target=kill_one)
    killing.start()
    converting = ClusterConversion(Wanted(workers=2, threads=1), sources, out)
    report = prepare_slices(sources, out, shard_size=3, converting=converting)
    killing.join()
    assert_same(out, report, alone)


def is_worker(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return b"spawn_main" in file.read()


def through_parts(sources, out, stop_after=99):
    """Convert through parts in this process, as workers do; a client that is killed after so many series."""

    def converting(series, told):
        parts = out / PARTS
        parts.mkdir(exist_ok=True)
        convert = _Convert(sources, parts)
        for number, one in enumerate(series):
            if number == stop_after:
                raise KeyboardInterrupt
            yield one, Part(parts, convert(one, nobody)).outcomes()

    return converting


@pytest.mark.parametrize("stop_after", [0, 1, 3])
def test_a_killed_client_is_resumed_on_a_cluster_or_alone(sources, alone, tmp_path, stop_after):
    for name, then in (("parts", lambda out: through_parts(sources, out)), ("alone", lambda out: converted)):
        out = tmp_path / name
        with pytest.raises(KeyboardInterrupt):
            prepare_slices(sources, out, shard_size=3, converting=through_parts(sources, out, stop_after))
        report = prepare_slices(sources, out, shard_size=3, converting=then(out))
        assert contents(out) == contents(alone[0])
        assert report.slices == alone[1].slices


def test_a_part_is_there_whole_or_not_at_all(sources, tmp_path):
    series = find_sources(sources).series[0]
    part = Part(tmp_path, part_name(series))

    def cut_off():
        yield next(iter(references(series)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        part.write(cut_off())
    assert not part.is_there
    assert list(tmp_path.iterdir()) == []
    part.write(references(series))
    for read, made in zip(part.outcomes(), references(series), strict=True):
        for name, value in vars(made).items():
            np.testing.assert_array_equal(getattr(read, name), value)
    part.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_lacks_a_folder_or_room_stops_the_run(sources, tmp_path, monkeypatch):
    series = find_sources(sources).series[0]
    lost = _Convert(tmp_path / "elsewhere", tmp_path)(series, nobody)
    assert isinstance(lost, Stop)
    assert "a worker does not see it; mount it there at the same place" in str(lost.error)
    monkeypatch.setattr(Part, "write", lambda part, outcomes: (_ for _ in ()).throw(OSError(28, "No space left")))
    full = _Convert(sources, tmp_path)(series, nobody)
    assert isinstance(full.error, ClusterError)
    assert "a worker cannot write there (No space left)" in str(full.error)


def test_what_ends_a_run_alone_ends_it_through_workers(sources, tmp_path, monkeypatch):
    def damaged(series, told):
        raise DataError("the list is damaged")

    monkeypatch.setattr("qdm_med.archive.store.references", damaged)
    stopped = _Convert(sources, tmp_path)(find_sources(sources).series[0], nobody)
    assert isinstance(stopped.error, DataError)
