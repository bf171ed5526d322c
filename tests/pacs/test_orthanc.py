"""A real Orthanc on loopback takes what we send, gives it back unchanged, and works with the listener.

Skipped where Orthanc is absent; ``make test-pacs`` installs it.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import urllib.request
from io import BytesIO
from pathlib import Path
from urllib.error import URLError

import pydicom
import pytest

from qdm_med.inference.runs.series import upscale_series
from qdm_med.io.dicom.file import quiet
from qdm_med.io.options import WriterOptions
from qdm_med.pacs.addresses import Node, WebService
from qdm_med.pacs.send import send_folder

PROGRAM = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
PLUGIN = next(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb*.so"), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PROGRAM is None, reason="Orthanc is absent: make test-pacs installs it"),
]
web = pytest.mark.skipif(PLUGIN is None, reason="Orthanc's DICOMweb plugin is absent: make test-pacs installs it")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Orthanc:
    """A running Orthanc with an empty store."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._http, self._dicom = folder, free_port(), free_port()
        self.node = Node("ORTHANC", "127.0.0.1", self._dicom)
        self.service = WebService(f"http://127.0.0.1:{self._http}/dicom-web")
        settings = {
            "StorageDirectory": str(folder / "store"),
            "IndexDirectory": str(folder / "store"),
            "HttpPort": self._http,
            "DicomPort": self._dicom,
            "DicomAet": "ORTHANC",
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "Plugins": [str(PLUGIN)] if PLUGIN else [],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        with (folder / "log").open("w") as log:
            self._process = subprocess.Popen([PROGRAM, str(folder / "settings.json")], stdout=log, stderr=log)

    def ask(self, path: str, data: object = None, method: str | None = None) -> bytes:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self._http}{path}", data=body, method=method)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return bytes(answer.read())

    def answers(self) -> bool:
        assert self._process.poll() is None, (self.folder / "log").read_text()
        try:
            return bool(self.ask("/system"))
        except URLError:
            return False

    def series(self) -> list[str]:
        return list(json.loads(self.ask("/series")))

    def instances(self, series: str | None = None) -> list[pydicom.FileDataset]:
        where = f"/series/{series}/instances" if series else "/instances?expand"
        found = [each["ID"] for each in json.loads(self.ask(where))]
        return [pydicom.dcmread(BytesIO(self.ask(f"/instances/{each}/file"))) for each in found]

    def know(self, node: Node) -> None:
        self.ask("/modalities/qdm", {"AET": node.title, "Host": node.host, "Port": node.port}, method="PUT")

    def forget(self) -> None:
        for patient in json.loads(self.ask("/patients")):
            self.ask(f"/patients/{patient}", method="DELETE")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(30)


@pytest.fixture(scope="module")
def running(tmp_path_factory, wait):
    started = Orthanc(tmp_path_factory.mktemp("orthanc"))
    try:
        wait(30, started.answers)
        yield started
    finally:
        started.stop()


@pytest.fixture
def orthanc(running):
    running.forget()
    return running


@pytest.fixture
def derived(series, upscaler, tmp_path):
    def derive(syntax):
        out = tmp_path / f"derived-{syntax}"
        upscale_series(series, out, upscaler, writing=WriterOptions(transfer_syntax=syntax))
        return out

    return derive


def unchanged(folder, returned):
    """Whether the same data sets came back, in the same encoding, pixel data included."""
    with quiet():
        sent, got = (
            sorted(each, key=lambda ds: ds.SOPInstanceUID)
            for each in ((pydicom.dcmread(path) for path in folder.iterdir()), returned)
        )
        return sent == got and all(
            a.file_meta.TransferSyntaxUID == b.file_meta.TransferSyntaxUID for a, b in zip(sent, got, strict=True)
        )


@pytest.mark.parametrize("syntax", ["explicit", "rle", "jpeg-ls", "jpeg-2000"])
def test_a_derived_series_sent_by_c_store_comes_back_unchanged(orthanc, derived, syntax):
    folder = derived(syntax)
    assert send_folder(folder, orthanc.node) == 3
    assert unchanged(folder, orthanc.instances())
    assert len(orthanc.series()) == 1


@web
@pytest.mark.parametrize("syntax", ["explicit", "jpeg-ls", "htj2k"])
def test_a_derived_series_sent_by_stow_comes_back_unchanged(orthanc, derived, syntax):
    folder = derived(syntax)
    assert send_folder(folder, orthanc.service) == 3
    assert unchanged(folder, orthanc.instances())
    assert len(orthanc.series()) == 1


def test_source_and_derived_series_stand_in_one_study_of_one_patient(orthanc, derived, series):
    for folder in (series, derived("explicit")):
        send_folder(folder, orthanc.node)
    (patient,) = json.loads(orthanc.ask("/patients?expand"))
    (study,) = patient["Studies"]
    told = json.loads(orthanc.ask(f"/studies/{study}/series"))
    assert sorted(each["MainDicomTags"]["SeriesNumber"] for each in told) == ["1", "104"]
    assert all(len(each["Instances"]) == 3 for each in told)


@pytest.mark.parametrize("kind", ["node", pytest.param("service", marks=web)])
def test_orthanc_pushes_to_the_listener_and_gets_the_derived_series(orthanc, listener, series, wait, kind):
    node = listener(getattr(orthanc, kind), allow="ORTHANC@127.0.0.1")
    send_folder(series, orthanc.node)
    (original,) = orthanc.series()
    orthanc.know(node.node)
    assert json.loads(orthanc.ask("/modalities/qdm/echo", {})) == {}
    assert json.loads(orthanc.ask("/modalities/qdm/store", [original]))["FailedInstancesCount"] == 0
    wait(60, lambda: node.told("stored by"))
    (made,) = set(orthanc.series()) - {original}
    got = orthanc.instances(made)
    assert {each.SourceImageSequence[0].ReferencedSOPInstanceUID for each in got} == {
        f"1.2.3.{number}" for number in (1, 2, 3)
    }
    assert all((each.Rows, each.Columns) == (64, 80) for each in got)
