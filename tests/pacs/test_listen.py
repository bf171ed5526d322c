"""The listener: a pushed series comes back super-resolved, whatever the destination does meanwhile."""

from __future__ import annotations

import errno
from dataclasses import replace

import pytest
from pynetdicom import AE

from qdm_med.io.dicom.file import quiet
from qdm_med.pacs import listen
from qdm_med.pacs.addresses import Node
from qdm_med.pacs.spool import Spool
from tests.pacs.pushed import push, stored


def test_a_pushed_series_arrives_derived_at_the_destination(archive, listener, series, wait):
    peer = archive()
    node = listener(peer.node)
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    derived = stored(peer)
    assert [(each.Rows, each.Columns) for each in derived] == [(64, 80)] * 3
    assert len({each.SeriesInstanceUID for each in derived} | {"1.2.3"}) == 2
    assert {each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in derived} == {
        f"1.2.3.{number}" for number in (1, 2, 3)
    }
    assert set(peer.callers) == {"QDM_MED"}
    assert list((node.spool / "queue").iterdir()) == list((node.spool / "failed").iterdir()) == []
    assert list(node.spool.rglob("*.dcm")) == []


def test_no_line_names_a_patient(archive, listener, series, wait, caplog, capfd):
    peer = archive()
    node = listener(peer.node)
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    captured = capfd.readouterr()
    assert len(node.lines) >= 4
    assert "SECRET" not in "".join([*node.lines, caplog.text, captured.out, captured.err]).upper()


def test_two_series_of_one_association_are_two_jobs_one_after_the_other(archive, listener, make_series, tmp_path, wait):
    folder = make_series(tmp_path / "both" / "a").parent
    make_series(folder / "b", uid="1.2.4", slices=2)
    peer = archive()
    node = listener(peer.node)
    push(node, folder)
    wait(30, lambda: sum("stored by" in line for line in node.lines) == 2)
    assert len({each.SeriesInstanceUID for each in stored(peer)}) == 2
    steps = [line.split(":")[0] for line in node.lines if "slices at" in line or "stored by" in line]
    assert steps == ["job 1", "job 1", "job 2", "job 2"]


def test_a_series_is_complete_only_when_nothing_comes_any_more(archive, listener, series, wait):
    peer = archive()
    node = listener(peer.node, settle=1.0)
    for path in sorted(series.iterdir()):  # an association for every image, as some scanners do
        push(node, path)
    wait(30, lambda: node.told("stored by"))
    assert node.told("job 1: 3 instances received")
    assert len({each.SeriesInstanceUID for each in stored(peer)}) == 1


def test_a_destination_that_is_down_gets_the_series_when_it_is_up(archive, listener, series, wait):
    nowhere = archive()
    refusing = archive(status=0xA700)
    node = listener(refusing.node)
    push(node, series)
    wait(30, lambda: node.told("status 0xA700"))
    assert (node.spool / "queue" / "000001" / "derived").is_dir()
    assert nowhere.files == []
    refusing.status = 0x0000
    wait(30, lambda: node.told("stored by"))
    assert len(refusing.files) == 3
    assert sum("slices at x4" in line for line in node.lines) == 1


def test_a_job_that_waits_for_its_destination_lets_others_pass(archive, listener, series, make_series, tmp_path, wait):
    peer = archive(status=0xA700)
    node = listener(peer.node, first_pause=300.0)
    push(node, series)
    wait(30, lambda: node.told("job 1: ") and node.told("tried again"))
    peer.status = 0x0000
    push(node, make_series(tmp_path / "other", uid="1.2.4"))
    wait(30, lambda: node.told("job 2: 3 instances stored"))
    assert not node.told("job 1: 3 instances stored")


def test_a_restarted_listener_sends_what_waited_without_computing_it_again(archive, listener, series, wait):
    peer = archive(status=0xA700)
    node = listener(peer.node, first_pause=300.0)
    push(node, series)
    wait(30, lambda: node.told("tried again"))
    node.end()
    peer.status = 0x0000
    again = listener(peer.node)
    wait(30, lambda: again.told("stored by"))
    assert not again.told("slices at")
    assert len(peer.files) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"RescaleSlope": "0"}, "RescaleSlope 0"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "no CT series"),
    ],
)
def test_what_cannot_be_super_resolved_is_put_aside_and_the_next_goes_on(
    archive, listener, make_series, series, tmp_path, wait, changes, told
):
    peer = archive()
    node = listener(peer.node)
    push(node, make_series(tmp_path / "bad", uid="1.2.9", **changes))
    wait(30, lambda: node.told("put aside"))
    assert told in (node.spool / "failed" / "000001" / "reason.txt").read_text()
    assert len(list((node.spool / "failed" / "000001" / "source").iterdir())) == 3
    push(node, series)
    wait(30, lambda: node.told("stored by"))


def test_an_unexpected_error_puts_one_job_aside_and_keeps_its_text_to_itself(
    archive, listener, series, upscaler, monkeypatch, wait
):
    def broken(*arguments, **options):
        raise ValueError("SECRET^PATIENT")

    monkeypatch.setattr(upscaler, "compute", broken)
    node = listener(archive().node)
    push(node, series)
    wait(30, lambda: node.told("ValueError"))
    assert not node.told("SECRET")
    assert (node.spool / "failed" / "000001").is_dir()


def test_a_spool_that_fails_for_a_while_stops_nothing(archive, listener, series, monkeypatch, wait):
    monkeypatch.setattr(listen, "DISK_PAUSE", 0.2)
    node = listener(archive().node)
    enqueue, failures = Spool.enqueue, [OSError(errno.ENOSPC, "No space left on device")]

    def full_once(spool, key):
        if failures:
            raise failures.pop()
        return enqueue(spool, key)

    monkeypatch.setattr(Spool, "enqueue", full_once)
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    assert node.told("No space left on device; tried again")
    assert node.told("job 1: 3 instances received")


def test_our_own_result_that_is_routed_back_is_put_aside(archive, listener, series, tmp_path, wait):
    peer = archive()
    node = listener(peer.node)
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    back = tmp_path / "back"
    back.mkdir()
    with quiet():
        for number, each in enumerate(stored(peer)):
            each.save_as(back / str(number), enforce_file_format=True)
    push(node, back)
    wait(30, lambda: node.told("made by qdm-med"))


def test_an_echo_is_answered_and_a_stranger_is_not(archive, listener):
    node = listener(archive().node)
    for title, admitted in (("CT1", True), ("STRANGER", False)):
        entity = AE(ae_title=title)
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", node.node.port, ae_title="QDM_MED")
        assert association.is_established is admitted
        if admitted:
            assert association.send_c_echo().Status == 0
            association.release()
    assert node.told("refused a caller from 127.0.0.1")


def test_a_destination_on_the_wrong_port_is_tried_again_and_said(archive, listener, series, wait):
    peer = archive()
    node = listener(replace(peer.node, title="OTHER"), first_pause=60.0)
    push(node, series)
    wait(30, lambda: node.told("refused the association"))
    assert isinstance(peer.node, Node)
    assert peer.files == []


def test_the_spread_of_samples_is_sent_as_a_series_of_its_own(archive, listener, series, wait, upscaler, monkeypatch):
    monkeypatch.setattr(upscaler, "samples", 2)
    peer = archive()
    node = listener(peer.node, making=listen.Making(uncertainty=True))
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    derived = stored(peer)
    assert len({each.SeriesInstanceUID for each in derived}) == 2
    assert node.told(f"job 1: {len(derived)} instances stored by")


def test_the_operator_hears_how_far_a_job_is(archive, listener, series, wait):
    seen = []
    peer = archive()
    node = listener(peer.node, watch=lambda *now: seen.append(now))
    push(node, series)
    wait(30, lambda: node.told("stored by"))
    assert {(job, total) for job, _, total in seen} == {(1, 3)}
    counts = [done for _, done, _ in seen]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 3)


def test_a_job_that_needs_more_memory_than_is_allowed_is_put_aside(archive, listener, series, wait):
    node = listener(archive().node, making=listen.Making(max_memory=1000))
    push(node, series)
    wait(30, lambda: node.told("put aside"))
    assert node.told("raise --max-memory")


def test_a_misspelt_unit_is_read_where_the_listener_is_told_so(archive, listener, make_series, tmp_path, wait):
    folder = make_series(tmp_path / "misspelt", RescaleType="HOUNDSFIELD UNIT")
    peer = archive()
    node = listener(peer.node, making=listen.Making(reading={"rescale_type_is_hu": True}))
    push(node, folder)
    wait(30, lambda: node.told("stored by"))
    assert len(stored(peer)) == 3
