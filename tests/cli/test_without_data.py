"""``eval`` and ``train-vae`` run before one has data, and say that this is a smoke test."""

from __future__ import annotations

import pytest

from qdm_med.data.store.slices import SliceStore
from qdm_med.data.store.smoke import write_smoke_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_smoke_store(tmp_path_factory.mktemp("smoke") / "store")


def test_the_phantoms_have_both_splits_no_common_patient_and_are_all_different(store):
    records = SliceStore.open(store).records
    assert {record.split for record in records} == {"train", "val"}
    assert len({record.patient for record in records}) == len({record.sha256 for record in records}) == len(records)
    assert {record.source for record in records} == {"phantom"}


def test_eval_without_data_takes_phantoms_and_says_so(run, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = ("--checkpoint", checkpoint, "--methods", "bicubic", "--no-fidelity", "--device", "cpu")
    code, told, err = run("eval", "--benchmark", "med-sr8", *quick)
    assert code == 0
    assert "| bicubic |" in told
    assert "smoke test on built-in phantoms" in err
    assert "--lpips-backbone" in err
    assert list(tmp_path.iterdir()) == []


def test_eval_without_data_takes_the_store_that_is_here(run, checkpoint, store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").symlink_to(store)
    quick = ("--checkpoint", checkpoint, "--methods", "bicubic", "--no-fidelity", "--device", "cpu")
    code, _, err = run("eval", "--benchmark", "med-sr8", *quick)
    assert code == 0
    assert "./store" in err
    assert "smoke test" not in err


def test_train_vae_without_anything_trains_a_tiny_one_on_phantoms(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, told, err = run("train-vae", "--device", "cpu")
    assert code == 0
    assert "smoke test on built-in phantoms" in err
    assert "trained vae-smoke: 20 steps" in told
    assert (tmp_path / "runs" / "vae" / "checkpoint.safetensors").is_file()
