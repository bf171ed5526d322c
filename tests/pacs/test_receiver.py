"""Receiving: who may come in, and that Success means on disk."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time

import pydicom
import pytest
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import AE
from pynetdicom.sop_class import CTImageStorage, MRImageStorage, Verification

from qdm_med.errors import ConfigError
from qdm_med.io.dicom.file import quiet
from qdm_med.pacs.addresses import Node, parse_caller
from qdm_med.pacs.receiver import Door, Receiver
from qdm_med.pacs.send import send_folder
from qdm_med.pacs.spool import Spool


@pytest.fixture
def lines():
    return []


@pytest.fixture
def receiver(tmp_path, lines):
    door = Door("QDM_MED", "127.0.0.1", 0, (parse_caller("CT1@127.0.0.1"), parse_caller("CT2@192.0.2.1")))
    with quiet(), Spool(tmp_path / "spool") as spool, Receiver(door, spool, report=lines.append) as made:
        yield made


def associate(receiver, *, calling="CT1", called="QDM_MED", sop_class=CTImageStorage):
    entity = AE(ae_title=calling)
    entity.add_requested_context(Verification)
    entity.add_requested_context(sop_class, ExplicitVRLittleEndian)
    return entity.associate("127.0.0.1", receiver.port, ae_title=called)


def kept(tmp_path):
    return sorted((tmp_path / "spool" / "receiving").rglob("*.dcm"))


def push(receiver, folder, *, calling="CT1"):
    """Status of every instance."""
    association = associate(receiver, calling=calling)
    assert association.is_established
    statuses = [association.send_c_store(path).Status for path in sorted(folder.iterdir())]
    association.release()
    return statuses


def test_an_echo_is_answered(receiver):
    association = associate(receiver)
    assert association.send_c_echo().Status == 0x0000
    association.release()


@pytest.mark.parametrize(
    ("calling", "called"),
    [("CT9", "QDM_MED"), ("CT2", "QDM_MED"), ("CT1", "OTHER")],
    ids=["title not allowed", "allowed title from another machine", "meant for another node"],
)
def test_who_is_not_expected_is_rejected_before_anything_is_taken(receiver, tmp_path, calling, called):
    association = associate(receiver, calling=calling, called=called)
    assert association.is_rejected
    assert not association.is_established
    assert kept(tmp_path) == []


def test_only_ct_images_are_taken(receiver, series):
    association = associate(receiver, sop_class=MRImageStorage)
    assert [str(context.abstract_syntax) for context in association.accepted_contexts] == [str(Verification)]
    association.release()


def test_success_means_that_the_instance_is_on_disk(receiver, series, tmp_path):
    association = associate(receiver)
    for count, path in enumerate(sorted(series.iterdir()), start=1):
        assert association.send_c_store(path).Status == 0x0000
        on_disk = {pydicom.dcmread(each).SOPInstanceUID for each in kept(tmp_path)}
        assert pydicom.dcmread(path).SOPInstanceUID in on_disk
        assert len(on_disk) == count
    association.release()


def test_received_pixels_and_headers_are_those_that_were_sent(receiver, series, tmp_path):
    assert push(receiver, series) == [0, 0, 0]
    with quiet():
        sent, got = (
            sorted((pydicom.dcmread(path) for path in paths), key=lambda ds: ds.SOPInstanceUID)
            for paths in (series.iterdir(), kept(tmp_path))
        )
        assert sent == got


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless],
    ids=lambda uid: uid.name,
)
def test_every_encoding_that_can_be_read_is_taken_as_it_is(receiver, series, tmp_path, syntax):
    with quiet():
        for path in series.iterdir():
            dataset = pydicom.dcmread(path)
            if syntax.is_encapsulated:
                dataset.compress(syntax, generate_instance_uid=False)
            dataset.file_meta.TransferSyntaxUID = syntax
            dataset.save_as(path, implicit_vr=syntax.is_implicit_VR, little_endian=True)
        send_folder(series, Node("QDM_MED", "127.0.0.1", receiver.port), title="CT1")
        assert {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in kept(tmp_path)} == {syntax}
        for path in kept(tmp_path):
            got = pydicom.dcmread(path)
            assert got == pydicom.dcmread(series / f"{got.InstanceNumber - 1:02d}.dcm")
    assert len(kept(tmp_path)) == 3


def test_an_address_of_ipv4_on_a_socket_for_ipv6_is_the_same_machine():
    door = Door("QDM_MED", "::", 0, (parse_caller("CT1@127.0.0.1"),))
    assert door.admits("CT1", "::ffff:127.0.0.1")
    assert not door.admits("CT1", "::ffff:127.0.0.2")


@pytest.mark.parametrize("failure", ["full disk", "folder gone"])
def test_what_cannot_be_written_is_answered_with_out_of_resources(
    receiver, series, tmp_path, lines, monkeypatch, failure
):
    if failure == "full disk":

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
    else:
        shutil.rmtree(tmp_path / "spool" / "arriving")
    assert push(receiver, series) == [0xA700] * 3
    assert kept(tmp_path) == []
    assert all(line.startswith("could not keep an instance") for line in lines)
    assert len(lines) == 3


def test_a_changed_instance_under_a_known_uid_is_answered_with_a_failure(receiver, series, tmp_path):
    push(receiver, series)
    before = {path: path.read_bytes() for path in kept(tmp_path)}
    with quiet():
        dataset = pydicom.dcmread(series / "01.dcm")
        dataset.SliceThickness = "9"
        dataset.save_as(series / "01.dcm")
    assert push(receiver, series) == [0, 0xC000, 0]
    assert {path: path.read_bytes() for path in kept(tmp_path)} == before


def test_a_series_settles_when_no_association_brings_it_any_more(receiver, series, wait):
    association = associate(receiver)
    association.send_c_store(series / "00.dcm")
    assert receiver.settled(0) == []
    association.release()
    wait(5, lambda: len(receiver.settled(0)) == 1)
    assert receiver.settled(60) == []


def test_a_series_does_not_settle_between_its_first_instance_and_its_answer(receiver, series, monkeypatch):
    seen, take = [], receiver._spool.take

    def slow(*content, **announced):
        kept = take(*content, **announced)
        time.sleep(0.3)  # the instance is in the spool, its answer is not out
        return kept

    monkeypatch.setattr(receiver._spool, "take", slow)
    association = associate(receiver)
    sending = threading.Thread(target=association.send_c_store, args=(series / "00.dcm",))
    sending.start()
    while sending.is_alive():
        seen += receiver.settled(0)
    association.release()
    assert seen == []


def test_a_series_of_an_association_that_broke_settles_too(receiver, series, wait):
    association = associate(receiver)
    association.send_c_store(series / "00.dcm")
    association.abort()
    wait(5, lambda: len(receiver.settled(0)) == 1)


def test_our_own_sender_and_receiver_fit_together(receiver, series, tmp_path):
    assert send_folder(series, Node("QDM_MED", "127.0.0.1", receiver.port), title="CT1") == 3
    assert len(kept(tmp_path)) == 3


def test_a_port_that_is_taken_is_one_line(receiver, tmp_path, lines):
    door = Door("QDM_MED", "127.0.0.1", receiver.port, ())
    with Spool(tmp_path / "second") as spool, pytest.raises(ConfigError, match=f"127.0.0.1:{receiver.port}: cannot"):
        Receiver(door, spool, report=lines.append)


def test_no_line_names_a_patient(receiver, series, lines):
    with quiet():
        dataset = pydicom.dcmread(series / "00.dcm")
        dataset.PatientName = "SECRET^OTHER"
        push(receiver, series)
        dataset.save_as(series / "00.dcm")
    push(receiver, series)
    associate(receiver, calling="SECRET")
    assert len(lines) == 2
    assert "SECRET" not in "".join(lines)
