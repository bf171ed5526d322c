"""Sending: every instance is answered for, unchanged, or one line says why not."""

from __future__ import annotations

import json
import threading
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import BytesIO

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGLSLossless, RLELossless

from qdm_med.errors import SeriesError, TransferError
from qdm_med.io.dicom.file import quiet
from qdm_med.pacs.addresses import Node, WebService
from qdm_med.pacs.send import send_folder


def data_sets(folder):
    """What stands behind the File Meta Information of each file."""
    found = []
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        length = int.from_bytes(content[140:144], "little")
        found.append(content[144 + length :])
    return found


def test_an_association_carries_every_instance_byte_for_byte(archive, series):
    peer = archive()
    done = []
    assert send_folder(series, peer.node, title="SENDER", progress=lambda *each: done.append(each)) == 3
    assert peer.files == data_sets(series)
    assert set(peer.callers) == {"SENDER"}
    assert done == [(1, 3), (2, 3), (3, 3)]


def test_a_node_that_takes_implicit_vr_only_gets_the_same_elements(archive, series):
    peer = archive(ImplicitVRLittleEndian)
    send_folder(series, peer.node)
    with quiet():
        for sent, path in zip(peer.files, sorted(series.iterdir()), strict=True):
            head = b"\0" * 128 + b"DICM\2\0\x10\0UI\x12\x001.2.840.10008.1.2\0"
            assert pydicom.dcmread(BytesIO(head + sent)) == pydicom.dcmread(path)


def test_what_is_no_dicom_is_not_sent(archive, series):
    (series / "notes.txt").write_text("no image")
    assert send_folder(series, archive().node) == 3


def test_a_damaged_file_stops_all(archive, series):
    peer = archive()
    (series / "02.dcm").write_bytes((series / "02.dcm").read_bytes()[:300])
    with pytest.raises(SeriesError, match=r"02\.dcm"):
        send_folder(series, peer.node)
    assert peer.files == []


def test_nothing_to_send_is_an_error(archive, tmp_path):
    (tmp_path / "notes.txt").write_text("no image")
    for path, told in [(tmp_path, "no DICOM objects"), (tmp_path / "absent", "no such file")]:
        with pytest.raises(SeriesError, match=told):
            send_folder(path, archive().node)


@pytest.mark.parametrize("status", [0xA700, 0xA900, 0xC123, 0x0122])
def test_an_instance_that_is_not_stored_is_named_with_the_status(archive, series, status):
    with pytest.raises(TransferError, match=rf"00\.dcm: ARCHIVE@.* did not store it \(status 0x{status:04X}\)"):
        send_folder(series, archive(status=status).node)


def test_a_warning_of_the_node_counts_as_stored(archive, series):
    assert send_folder(series, archive(status=0xB000).node) == 3


def test_a_node_of_another_title_refuses_in_one_line(archive, series):
    peer = archive()
    with pytest.raises(TransferError, match=r"refused the association .*Called AE title not recogni[sz]ed"):
        send_folder(series, Node("OTHER", "127.0.0.1", peer.node.port))
    assert peer.files == []


def test_a_node_that_is_not_there_is_named(series):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        port = free.server_address[1]
    with pytest.raises(TransferError, match=rf"ARCHIVE@127\.0\.0\.1:{port}: cannot be reached"):
        send_folder(series, Node("ARCHIVE", "127.0.0.1", port))


def compress(series, syntax=RLELossless):
    with quiet():
        dataset = pydicom.dcmread(series / "02.dcm")
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(series / "02.dcm")


def decoded(path):
    with quiet():
        return pydicom.dcmread(path).pixel_array


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
@pytest.mark.parametrize("taken", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_a_node_that_does_not_take_the_encoding_gets_the_same_instance_uncompressed(archive, series, syntax, taken):
    pixels, uid = decoded(series / "02.dcm"), pydicom.dcmread(series / "02.dcm").SOPInstanceUID
    compress(series, syntax)
    peer = archive(taken)
    assert send_folder(series, peer.node) == 3
    with quiet():
        got = pydicom.filereader.read_dataset(BytesIO(peer.files[2]), taken == ImplicitVRLittleEndian, True)
    assert got.SOPInstanceUID == uid
    np.testing.assert_array_equal(np.frombuffer(got.PixelData, pixels.dtype).reshape(pixels.shape), pixels)
    both = archive(ExplicitVRLittleEndian, syntax)
    assert send_folder(series, both.node) == 3
    assert both.files == data_sets(series)


def test_a_node_that_takes_no_encoding_is_told_by_name_and_gets_nothing(archive, series):
    peer = archive(RLELossless)
    with pytest.raises(
        TransferError,
        match=r"takes CT Image Storage in none of the offered transfer syntaxes \(Explicit VR Little Endian, ",
    ):
        send_folder(series, peer.node)
    assert peer.files == []


class Service(BaseHTTPRequestHandler):
    """A DICOMweb service with one answer for all."""

    answer: tuple[int, str, bytes]
    got: list[tuple[str, bytes]]

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size + 2)[:-2]
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        whole = message_from_bytes(b"Content-Type: " + self.headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        self.got += [(self.path, part.get_payload(decode=True)) for part in whole.get_payload()]
        code, kind, content = self.answer
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def web():
    """Start a web service that answers as told."""
    servers = []

    def start(code=200, kind="application/dicom+json", content=b"{}"):
        handler = type("Told", (Service,), {"answer": (code, kind, content), "got": []})
        server = HTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        start.handlers.append(handler)
        return WebService(f"http://127.0.0.1:{server.server_address[1]}/dicom-web"), handler.got

    start.handlers = []
    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_web_service_gets_every_instance_unchanged(web, series):
    service, got = web()
    assert send_folder(series, service) == 3
    assert {path for path, _ in got} == {"/dicom-web/studies"}
    with quiet():
        for (_, sent), path in zip(got, sorted(series.iterdir()), strict=True):
            assert pydicom.dcmread(BytesIO(sent)) == pydicom.dcmread(path)


REFUSAL = json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}).encode()


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "application/dicom+json", REFUSAL), r"00\.dcm: .* did not store it \(reason 0xA700\)"),
        ((409, "application/dicom+json", REFUSAL), r"00\.dcm: .* did not store it \(HTTP 409\)"),
        ((401, "text/plain", b"who are you"), r"did not store it \(HTTP 401\)"),
        ((500, "text/plain", b"SECRET"), r"did not store it \(HTTP 500\)"),
        ((200, "application/json", b"no JSON"), "gave no answer of a DICOMweb service|cannot be reached"),
    ],
)
def test_a_web_service_that_does_not_store_is_an_error(web, series, answer, told):
    service, _ = web(*answer)
    with pytest.raises(TransferError, match=told) as caught:
        send_folder(series, service)
    assert "\n" not in str(caught.value)
    assert "SECRET" not in str(caught.value)


def test_a_web_service_that_is_not_there_is_named(series):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as free:
        url = f"http://127.0.0.1:{free.server_address[1]}/dicom-web"
    with pytest.raises(TransferError, match=f"{url}: cannot be reached"):
        send_folder(series, WebService(url))


@pytest.mark.parametrize(
    "refusal", [(415, "text/plain", b"no"), (409, "application/dicom+json", REFUSAL.replace(b"42752", b"49442"))]
)
def test_a_web_service_that_does_not_take_the_encoding_gets_it_uncompressed(web, series, refusal):
    assert b"49442" in REFUSAL.replace(b"42752", b"49442")
    pixels = decoded(series / "02.dcm")
    compress(series)
    service, got = web()
    (handler_class,) = web.handlers

    def picky(self):
        dataset = pydicom.dcmread(BytesIO(got[-1][1]))
        return refusal if dataset.file_meta.TransferSyntaxUID == RLELossless else (200, "application/dicom+json", b"{}")

    handler_class.answer = property(picky)
    assert send_folder(series, service) == 3
    assert len(got) == 4
    with quiet():
        np.testing.assert_array_equal(pydicom.dcmread(BytesIO(got[3][1])).pixel_array, pixels)
    handler_class.answer = refusal
    with pytest.raises(TransferError, match="does not take Explicit VR Little Endian"):
        send_folder(series, service)
