"""A series is made exactly once, at whichever point its worker dies."""

from __future__ import annotations

import json

import pytest

from qdm_med.archive import making
from qdm_med.archive.places import with_places
from qdm_med.archive.receipt import read_receipt, receipt_path
from qdm_med.archive.sources import series_under
from qdm_med.errors import SeriesError
from qdm_med.files import partial_path
from qdm_med.io.output.lock import OutputLock, lock_path
from tests.archive.trees import hidden, stored, write_series


class Killed(BaseException):
    """Stands for the end of a process: nobody catches it."""


def planned(maker):
    found = series_under(maker.tree, maker.folder.unpacked, exclude=maker.folder.out, reading=maker.settings.reading)
    return with_places(found, "tree", lambda one: 4, {})


def no_progress(done, total, ct_slice):
    pass


def leftovers(maker):
    state = maker.folder.state
    return [path.name for folder in (maker.folder.tickets, maker.folder.locks) for path in folder.glob("*")] + [
        path.name for path in state.glob("unpacked/*")
    ]


def test_a_series_gets_its_output_and_a_receipt_that_says_how(maker):
    series = planned(maker)[0]
    made = maker.make(series, no_progress)
    assert made.now
    out = maker.folder.out / series.out
    record = json.loads(receipt_path(out).read_text())
    assert series.out == "p000/ct-srx4"
    assert record["settings"]["seed"] == 0
    assert record["settings"]["model_sha256"] == maker.upscalers.sha256
    assert {one["path"] for one in record["inputs"]} == {"p000/ct/000.dcm", "p000/ct/001.dcm"}
    assert record["pixels_sha256"] == {"ct-srx4": {k.split("/")[-1]: v for k, v in stored(out).items()}}
    assert leftovers(maker) == hidden(maker.folder.out) == []


def test_a_series_that_is_made_is_left_as_it_is(maker):
    series = planned(maker)[0]
    first = maker.make(series, no_progress)
    again = maker.make(series, no_progress)
    assert (first.now, again.now) == (True, False)
    assert again.receipt == first.receipt


@pytest.mark.parametrize("moment", ["write_json", "upscale_volume", "first slice", "write_receipt"])
def test_a_kill_at_any_point_is_mended_by_the_next_worker(maker, monkeypatch, moment):
    series = planned(maker)[0]
    whole = maker.make(planned(maker)[1], no_progress)
    assert whole.now

    def die(*arguments, **options):
        raise Killed

    def die_after_a_slice(done, total, ct_slice):
        if ct_slice:
            raise Killed

    with pytest.raises(Killed), monkeypatch.context() as patch:
        if moment != "first slice":
            patch.setattr(making, moment, die)
        maker.make(series, die_after_a_slice if moment == "first slice" else no_progress)
    out = maker.folder.out / series.out
    assert not receipt_path(out).exists()
    made = maker.make(series, no_progress)
    assert made.now
    assert made.receipt.record["recovered"] == (moment == "write_receipt")
    assert made.receipt.record["pixels_sha256"]["ct-srx4"] == {k.split("/")[-1]: v for k, v in stored(out).items()}
    assert len(stored(out)) == 2
    assert leftovers(maker) == hidden(maker.folder.out) == []


def test_what_a_kill_left_beside_a_whole_output_is_removed(maker, monkeypatch):
    series = planned(maker)[0]

    def die(*arguments, **options):
        raise Killed

    with pytest.raises(Killed), monkeypatch.context() as patch:
        patch.setattr(making, "write_receipt", die)
        maker.make(series, no_progress)
    out = maker.folder.out / series.out
    lock_path(out).touch()  # as if it had died a moment earlier, with these still there
    partial_path(out).mkdir()
    (partial_path(out) / "job.json").touch()
    assert maker.make(series, no_progress).receipt.record["recovered"]
    assert leftovers(maker) == hidden(maker.folder.out) == []


def test_a_source_that_changed_between_kill_and_retry_is_not_mixed(maker):
    series = planned(maker)[0]

    def die_after_a_slice(done, total, ct_slice):
        if ct_slice:
            raise Killed

    with pytest.raises(Killed):
        maker.make(series, die_after_a_slice)
    paths = [maker.tree / "p000" / "ct" / name for name in ("000.dcm", "001.dcm")]
    content = paths[0].read_bytes()
    paths[0].write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    made = maker.make(planned(maker)[0], no_progress)
    assert made.receipt.record["resumed"] == 0


def test_a_source_that_changed_after_its_output_is_refused(maker):
    series = planned(maker)[0]
    maker.make(series, no_progress)
    path = maker.tree / "p000" / "ct" / "000.dcm"
    content = path.read_bytes()
    path.touch()
    assert not maker.make(planned(maker)[0], no_progress).now  # another time, the same content
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    with pytest.raises(SeriesError, match="its source has changed since it was made"):
        maker.make(planned(maker)[0], no_progress)


def test_what_lies_in_the_way_is_refused_and_kept(maker):
    series = planned(maker)[0]
    foreign = maker.folder.out / series.out / "note.txt"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("mine")
    with pytest.raises(SeriesError, match="in the way and has no receipt"):
        maker.make(series, no_progress)
    assert foreign.read_text() == "mine"
    assert leftovers(maker) == []


def test_a_receipt_of_other_settings_is_never_taken_for_ours(maker):
    series = planned(maker)[0]
    made = maker.make(series, no_progress)
    out = maker.folder.out / series.out
    receipt_path(out).write_text(json.dumps({**made.receipt.record, "settings_key": "other"}))
    with pytest.raises(SeriesError, match="other settings"):
        maker.make(series, no_progress)


def test_a_series_that_another_worker_has_is_waited_for(maker, monkeypatch):
    series = planned(maker)[0]
    waited = []
    place = maker.folder.locks / series.id
    place.parent.mkdir(parents=True)
    other = OutputLock(place)

    def sleep(seconds):
        waited.append(seconds)
        other.release()

    monkeypatch.setattr(making.time, "sleep", sleep)
    assert maker.make(series, no_progress).now
    assert waited == [making.POLL_SECONDS]


def test_a_failed_series_leaves_nothing(maker):
    folder = maker.tree / "p009" / "ct"
    write_series(folder, "cut")
    (series,) = (one for one in planned(maker) if one.source == "p009/ct")
    (folder / "001.dcm").write_bytes((folder / "001.dcm").read_bytes()[:-1400])
    with pytest.raises(SeriesError, match="cannot be decoded"):
        maker.make(series, no_progress)
    assert leftovers(maker) == hidden(maker.folder.out) == []
    assert read_receipt(maker.folder.out / series.out) is None
