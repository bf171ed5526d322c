"""Status, report and verification of an archive: what is told is what is there."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest

from qdm_med.archive.events import EventLog, read_events
from qdm_med.archive.receipt import receipt_path
from qdm_med.archive.run import plan_only
from qdm_med.archive.settings import changes
from qdm_med.archive.status import events, read_status
from qdm_med.archive.tally import Tally
from qdm_med.archive.verify import verify_archive
from qdm_med.archive.work import Outcome
from qdm_med.errors import CheckpointError, ConfigError, DataError
from tests.archive.trees import write_tree


@pytest.fixture
def done(tmp_path, maker, request_for):
    """An archive of three series: two done, one failed; and a refused file."""
    (maker.tree / "cut.dcm").write_bytes(next(maker.tree.rglob("*.dcm")).read_bytes()[:600])
    manifest = plan_only(request_for(maker.tree, maker.folder.out))
    maker = replace(maker, settings=replace(maker.settings, device="cpu"))
    maker.folder.require_settings(maker.settings)
    accepted = manifest.accepted
    for one in accepted[:2]:
        maker.make(one, lambda done, total, ct_slice: None)
    log = EventLog(maker.folder.events)
    log.add("run", scanned=manifest.scanned)
    for one in accepted[:2]:
        log.add("done", id=one.id)
    log.add("failed", id=accepted[2].id, reason=f"{maker.tree}/p002/ct/000.dcm: <b>slope</b> 0.0 is wrong")
    log.close()
    return maker.folder


def test_status_counts_what_receipts_and_events_say(done):
    status = read_status(done)
    assert (status.state, status.series, status.done, status.failed, status.refused) == ("planned", 3, 2, 1, 1)
    assert (status.slices, status.slices_done) == (6, 4)
    assert [event["event"] for event in events(done, follow=False)] == ["run", "done", "done", "failed"]


def test_a_line_that_a_kill_tore_is_passed_over(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event": "run"}\n{"event": "don')
    log = EventLog(path)
    log.add("end")
    log.close()
    assert [event["event"] for event in read_events(path)] == ["run", "end"]


def test_a_tally_follows_series_from_start_to_end(done):
    planned = {one.id: one for one in done.planned().accepted}
    first, second, third = planned
    tally = Tally(planned, refused=1, done={first})
    tally.told({"event": "started", "id": second, "worker": "w"})
    tally.told({"event": "slices", "id": second, "worker": "w", "done": 1, "total": 2})
    tally.told({"event": "started", "id": third, "worker": "w"})
    now = tally.snapshot()
    assert [(one.id, one.done, one.total) for one in now.running] == [(second, 1, 2), (third, 0, 2)]
    assert (now.slices_done, now.slices) == (3, 6)
    tally.ended(Outcome(second, "done", slices=2, active_leaves=0.5, made=True))
    tally.ended(Outcome(third, "failed", "why"))
    tally.told({"event": "slices", "id": second, "worker": "w", "done": 1, "total": 2})  # late
    now = tally.snapshot("ended")
    assert (now.done, now.failed, now.running, now.slices_done, now.active_leaves) == (2, 1, (), 4, 0.5)
    assert now.seconds_left == 0


def test_the_report_tells_figures_and_reasons_as_page_and_table(run, done, tmp_path):
    page, table = tmp_path / "page" / "report.html", tmp_path / "series.csv"
    code, told, err = run("archive", "report", done.out, "--html", page, "--csv", table)
    assert (code, err) == (0, "")
    assert told.startswith("2 done, 1 failed, 0 waiting, 1 refused; 4 slices")
    with table.open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["state"] for row in rows) == ["done", "done", "failed", "refused"]
    by_state = {row["state"]: row for row in rows}
    receipt = json.loads(receipt_path(done.out / by_state["done"]["out"]).read_text())
    assert float(by_state["done"]["seconds"]) == pytest.approx(receipt["seconds"], abs=1e-3)
    assert int(by_state["done"]["output_bytes"]) == receipt["output_bytes"]
    text = page.read_text()
    assert "&lt;b&gt;slope&lt;/b&gt;" in text
    assert "<b>slope" not in text
    assert "http" not in text.lower().replace("http-equiv", "")
    code, _, err = run("archive", "report", tmp_path / "none")
    assert code == 1
    assert "no archive of this tool" in err


def test_slices_made_again_are_the_same_and_a_changed_output_or_source_is_found(run, done, checkpoint):
    again = ("archive", "verify", done.out, "--checkpoint", checkpoint, "--device", "cpu", "--slices", 9)
    code, told, err = run(*again)
    assert (code, err) == (0, "")
    assert "4 slices of 2 series made again" in told
    assert "byte for byte: all the same" in told
    path = done.out / "p000" / "ct-srx4" / "00002.dcm"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + bytes([content[-2] ^ 1, content[-1]]))
    code, told, _ = run(*again)
    assert code == 1
    assert "00002.dcm of ct-srx4 is not what was written" in told
    assert "p000/ct-srx4: slice 2 comes out differently in 1 pixels, by up to 1 HU" in told
    path.write_bytes(content)
    source = done.planned().tree / "p001" / "ct" / "000.dcm"
    source.write_bytes(source.read_bytes()[:-2] + b"\7\7")
    code, told, _ = run(*again, "--json")
    assert code == 1
    assert json.loads(told)["differences"] == ["p001/ct: the source is not what p001/ct-srx4 was made from"]


def test_verification_needs_the_model_and_versions_of_the_archive(done, checkpoint, tmp_path):
    from qdm_med.checkpoints.model import default_checkpoint

    with pytest.raises(CheckpointError, match="is not the model tiny that the archive was made with"):
        verify_archive(done, default_checkpoint(), slices=1, seed=0, device="cpu")
    stated = json.loads((done.state / "settings.json").read_text())
    stated["versions"]["torch"] = "1.0"
    (done.state / "settings.json").write_text(json.dumps(stated))
    with pytest.raises(ConfigError, match=r"torch was 1\.0"):
        verify_archive(done, checkpoint, slices=1, seed=0, device="cpu")


def test_changed_settings_are_told_by_name(done, maker, request_for, tmp_path):
    others = request_for(maker.tree, done.out, strict=True, max_memory=2**30).settings
    with pytest.raises(ConfigError, match=r"max_memory was None, is 1073741824; strict was False, is True"):
        done.require_settings(others)
    assert changes({"a": 1}, {"b": 1}) == ["a was 1, is None", "b was None, is 1"]


def test_nothing_is_verified_where_nothing_is_done(request_for, tmp_path, checkpoint):
    from qdm_med.archive.folder import ArchiveFolder

    plan_only(request_for(write_tree(tmp_path / "one", 1), tmp_path / "out"))
    with pytest.raises(DataError, match="no series is finished"):
        verify_archive(ArchiveFolder(tmp_path / "out"), checkpoint, slices=1, seed=0, device="cpu")
