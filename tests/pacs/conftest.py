"""A small CT series, a tiny model, and DICOM nodes on loopback that remember what they are given."""

from __future__ import annotations

import socketserver
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, ParametricMapStorage

from qdm_med.checkpoints.model import Checkpoint, ModelCard, save_checkpoint
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.matrix import Grid
from qdm_med.inference.runs.scales import Upscalers
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.dicom.file import quiet
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.pacs.addresses import Node, parse_caller
from qdm_med.pacs.listen import Worker, listen
from qdm_med.pacs.receiver import Door
from tests.shapes import TINY_AUTOENCODER, TINY_DENOISER

NAME = "SECRET^PATIENT"


def write_series(
    folder: Path,
    *,
    slices: int = 3,
    uid: str = "1.2.3",
    number: int = 1,
    repeated: tuple[int, int] = (1, 1),
    **changes: object,
) -> Path:
    """The CT slice that pydicom carries, made small and repeated along its normal, and within itself."""
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    plane = np.tile(dataset.pixel_array[40:56, 40:60], repeated)
    (dataset.Rows, dataset.Columns), dataset.SeriesInstanceUID, dataset.SeriesNumber = plane.shape, uid, number
    dataset.PatientName, dataset.PatientID = NAME, "SECRET-ID"
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        for keyword, value in changes.items():
            setattr(dataset, keyword, value)
        for index in range(slices):
            dataset.PixelData = (plane + index).tobytes()
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{uid}.{index + 1}"
            dataset.ImagePositionPatient, dataset.InstanceNumber = [-158.0, -179.0, 5.0 * index], index + 1
            dataset.save_as(folder / f"{index:02d}.dcm")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _servers_stop_at_once():
    """Half a second for each of them, otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socketserver.BaseServer.serve_forever, "__defaults__", (0.02,))
        yield


@pytest.fixture
def series(tmp_path: Path) -> Path:
    return write_series(tmp_path / "series")


@pytest.fixture(scope="session")
def make_series() -> Callable[..., Path]:
    return write_series


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_checkpoint(path, ModelCard("tiny", autoencoder, denoiser), KlVae(autoencoder), TwoStreamDenoiser(denoiser))
    return path


@pytest.fixture(scope="session")
def model() -> Checkpoint:
    torch.manual_seed(0)
    autoencoder, denoiser = TINY_AUTOENCODER, TINY_DENOISER
    networks = KlVae(autoencoder).eval(), TwoStreamDenoiser(denoiser).eval()
    return Checkpoint(ModelCard("tiny", autoencoder, denoiser), *networks, sha256="0" * 64)


@pytest.fixture(scope="session")
def upscalers(model: Checkpoint) -> Upscalers:
    return Upscalers(model, UpscaleOptions(steps=1), device=torch.device("cpu"))


@pytest.fixture(scope="session")
def upscaler(upscalers: Upscalers) -> Upscaler:
    """The one that a listener uses for a series of no particular grid."""
    return upscalers.at(4)


@dataclass
class Archive:
    """A node that stores in memory, or answers with ``status`` and stores nothing."""

    node: Node
    status: int = 0x0000
    files: list[bytes] = field(default_factory=list)
    callers: list[str] = field(default_factory=list)

    def store(self, event: evt.Event) -> int:
        self.callers.append(event.assoc.requestor.ae_title)
        if self.status == 0x0000:
            self.files.append(event.encoded_dataset(include_meta=False))
        return self.status


@pytest.fixture
def archive():
    """Start an :class:`Archive` that takes the given transfer syntaxes."""
    servers = []

    def start(*syntaxes: str, port: int = 0, sop_class: str = CTImageStorage, status: int = 0x0000) -> Archive:
        entity = AE(ae_title="ARCHIVE")
        entity.require_called_aet = True
        for one in (sop_class, ParametricMapStorage):
            entity.add_supported_context(one, list(syntaxes) or "1.2.840.10008.1.2.1")
        made = Archive(Node("ARCHIVE", "127.0.0.1", port), status)
        servers.append(
            entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, made.store)])
        )
        made.node = replace(made.node, port=servers[-1].server_address[1])
        return made

    yield start
    for server in servers:
        server.shutdown()


def within(seconds: float, happened: Callable[[], object]) -> None:
    """Wait until something has happened; fail if it does not."""
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"did not happen within {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def wait() -> Callable[[float, Callable[[], object]], None]:
    return within


@dataclass
class Listener:
    """A listener in a thread of this process."""

    node: Node
    spool: Path
    lines: list[str]
    end: Callable[[], None]

    def told(self, text: str) -> bool:
        return any(text in line for line in self.lines)


@pytest.fixture
def listener(tmp_path: Path, model: Checkpoint, upscalers: Upscalers):
    """Start a listener that lets CT1 in from this machine."""
    running = []

    def start(destination, *, settle: float = 0.0, allow: str = "CT1@127.0.0.1", grid: Grid | None = None, **options):
        own = Upscalers(model, UpscaleOptions(steps=1), device=torch.device("cpu"), grid=grid) if grid else upscalers
        lines, stop, spool = [], threading.Event(), tmp_path / "spool"
        door = Door("QDM_MED", "127.0.0.1", 0, (parse_caller(allow),))

        def worker(held):
            options.setdefault("first_pause", 0.2)
            return Worker(held, own, destination, title="QDM_MED", report=lines.append, **options)

        thread = threading.Thread(
            target=listen, args=(spool, door, worker), kwargs={"report": lines.append, "settle": settle, "stop": stop}
        )
        thread.start()
        within(10, lambda: lines or not thread.is_alive())

        def end():
            stop.set()
            thread.join(20)
            assert not thread.is_alive()

        running.append(end)
        port = int(lines[0].split(",")[0].rpartition(":")[2])
        return Listener(Node("QDM_MED", "127.0.0.1", port), spool, lines, end)

    yield start
    for end in running:
        end()
