"""``qdm-med eval --benchmark clinical`` on the command line."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import numpy as np
import pytest

from qdm_med.checkpoints.model import load_checkpoint, save_checkpoint
from qdm_med.data.store.slices import SliceRecord, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.evaluation.clinical import generators
from qdm_med.evaluation.clinical.scan import Scan
from tests.evaluation.phantoms import chest


@pytest.fixture(autouse=True)
def fewer_phantoms(monkeypatch):
    """One scan of the phantom of details in place of ten: the tiny model is judged, not admired."""
    monkeypatch.setattr(generators, "DETAIL_SCANS", (Scan(1.2, 6.0),))
    monkeypatch.setattr(generators, "DETAIL_REPEATS", 1)


@pytest.fixture(scope="module")
def one_step(checkpoint, tmp_path_factory):
    """The tiny model with one step."""
    model = load_checkpoint(checkpoint)
    path = tmp_path_factory.mktemp("one") / "tiny.safetensors"
    save_checkpoint(path, replace(model.card, scales=(4,), steps=(1,)), model.autoencoder, model.denoiser)
    return path


@pytest.fixture
def judge(run, one_step):
    return functools.partial(run, "eval", "--benchmark", "clinical", "--checkpoint", one_step, "--scales", "4")


@pytest.fixture
def data(tmp_path):
    with SliceStoreWriter(tmp_path / "store", slice_shape=(128, 128)) as writer:
        hu = np.clip(np.rint(chest(128)), -1024, 3071).astype(np.int16)
        writer.add(hu, SliceRecord("val", "p", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    return tmp_path / "store"


def test_generators_alone_give_a_table_a_verdict_and_files(judge, tmp_path):
    code, told, err = judge("--mode", "balanced", "--out", tmp_path / "out", "--report", tmp_path / "report.html")
    assert (code, err) == (0, "")
    assert told.startswith("clinical, tiny, seed 0: ")
    assert "| noise out / in, contrast medium | 0." in told
    assert "x4, balanced: " in told
    assert "bars held" in told
    found = json.loads((tmp_path / "out" / "clinical.json").read_text())
    assert found["x4"]["methods"]["balanced"]["bars"] == told.count(" | at ")
    page = (tmp_path / "report.html").read_text()
    assert "HU ladder" in page
    assert "line pairs of 0.4 a source pixel" in page


def test_a_store_adds_patients_and_json_says_the_same_again(judge, data):
    first, second = (judge("--mode", "balanced", "--data", data, "--json")[1] for _ in range(2))
    assert first == second
    found = json.loads(first)
    assert {"rmse_spread", "resolution_noisy", "rmse_lung", "bias_soft_tissue"} <= found["x4"]["bars"].keys()
    assert "1 slices of split val" in found["headline"]


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        (("--mode", "loud"), "mode 'loud' is unknown"),
        (("--scales", "3"), "scale 3 is unknown"),
        (("--phantom", "scan.dcm"), "give both --phantom and --regions"),
        (("--per-patient", "0"), "at least 1"),
    ],
)
def test_what_cannot_be_judged_is_one_line(judge, wishes, told):
    code, out, err = judge(*wishes)
    assert (code, out) == (1, "")
    assert told in err
