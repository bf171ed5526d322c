"""The stored pixels of ``qdm-med upscale`` stay what they are while the code around them moves."""

from __future__ import annotations

import json

import pytest

from tests.output_bytes import CASES, GOLDEN, numerics, output_hashes, write_model, write_sources


@pytest.fixture(scope="module")
def recorded():
    golden = json.loads(GOLDEN.read_text())
    if golden["numerics"] != numerics():
        pytest.skip("this processor or PyTorch rounds float32 in another way than where the hashes were recorded")
    return golden["hashes"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("output_bytes")
    write_sources(folder)
    write_model(folder / "tiny.safetensors")
    return folder


def test_every_case_has_its_own_pixels(recorded):
    assert recorded.keys() == CASES.keys()
    assert len({hashes[0] for hashes in recorded.values()}) == len(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_stored_pixels_are_the_recorded_ones(recorded, folder, monkeypatch, name):
    monkeypatch.setattr("sys.argv", [])
    assert output_hashes(name, folder) == recorded[name]
