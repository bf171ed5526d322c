"""Data of a benchmark: a store or a tree of files, and never a patient of the training."""

from __future__ import annotations

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import DataError
from qdm_med.evaluation.selection import benchmark_store, select_slices, store_sha256


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Two volumes of two slices, as different as two patients."""
    folder = tmp_path_factory.mktemp("tree")
    for number in range(2):
        hu = np.random.default_rng(number).integers(-1000, 500, (512, 512, 2)).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.diag([0.8, 0.8, 2.5, 1.0])), folder / f"{number}.nii.gz")
    (folder / "notes.txt").write_text("no image")
    return folder


def test_a_tree_becomes_a_store_in_which_every_patient_is_in_the_split(tree):
    with benchmark_store(tree, "test") as store:
        assert len(store) == 4
        assert {record.split for record in store.records} == {"test"}
        assert len({record.patient for record in store.records}) == 2
        assert store.slice_shape == (512, 512)
        place = store.path
    assert not place.exists()


def test_a_kept_store_is_made_once(tree, tmp_path):
    with benchmark_store(tree, "val", tmp_path / "store") as store:
        first, made = store_sha256(store), (store.path / "store.json").stat().st_mtime_ns
    with benchmark_store(tree, "val", tmp_path / "store") as store:
        assert (store_sha256(store), (store.path / "store.json").stat().st_mtime_ns) == (first, made)


def test_a_kept_store_of_other_files_is_refused(tree, tmp_path):
    with benchmark_store(tree, "val", tmp_path / "store"):
        pass
    other = tmp_path / "other"
    other.mkdir()
    (other / "other.nii.gz").write_bytes((tree / "0.nii.gz").read_bytes())
    with (
        pytest.raises(DataError, match="holds 2 series that are not in"),
        benchmark_store(other, "val", tmp_path / "store"),
    ):
        pass


def test_a_store_is_opened_as_it_is(store):
    with benchmark_store(store.path, "val") as opened:
        assert opened.records == store.records


def test_a_folder_with_neither_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("no image")
    with (
        pytest.raises(DataError, match="holds neither a slice store nor CT that can be used"),
        benchmark_store(tmp_path, "val"),
    ):
        pass
    with pytest.raises(DataError, match="is no folder"), benchmark_store(tmp_path / "absent", "val"):
        pass


def card(checkpoint, **training) -> ModelCard:
    return replace(checkpoint.card, training=training)


def test_listed_patients_of_the_training_are_left_out(store, checkpoint):
    first, second = dict.fromkeys(record.patient for record in store.records if record.split == "val")
    chosen = select_slices(store, "val", 1, card(checkpoint, patient_keys=[first]))
    assert {store.records[index].patient for index in chosen.indices} == {second}
    assert chosen.note == "2 slices of patients of the training left out"
    assert len(select_slices(store, "val", 1, card(checkpoint, patient_keys=["other"])).indices) == 4
    with pytest.raises(DataError, match="all 4 slices of split val are of patients that tiny was trained on"):
        select_slices(store, "val", 1, card(checkpoint, patient_keys=[first, second]))


def test_patients_of_every_models_training_are_left_out(store, checkpoint):
    first, second = dict.fromkeys(record.patient for record in store.records if record.split == "val")
    mine = card(checkpoint, patient_keys=[first])
    chosen = select_slices(store, "val", 1, mine, card(checkpoint, patient_keys=["other"]), mine)
    assert {store.records[index].patient for index in chosen.indices} == {second}
    assert chosen.note == "2 slices of patients of the training left out"
    said = select_slices(store, "val", 1, mine, card(checkpoint, store="another")).note
    assert "make sure" in said
    assert "2 slices of patients" in said
    with pytest.raises(DataError, match="of patients that tiny was trained on"):
        select_slices(store, "val", 1, mine, card(checkpoint, patient_keys=[second]))


def test_the_training_split_of_the_trainings_store_is_refused(store, checkpoint):
    same = card(checkpoint, store=store_sha256(store))
    with pytest.raises(DataError, match="is what tiny was trained on; give --split val"):
        select_slices(store, "train", 1, same)
    assert select_slices(store, "val", 1, same).note.startswith("patients apart from the training")


def test_what_nobody_recorded_is_said(store, checkpoint):
    chosen = select_slices(store, "val", 3, card(checkpoint, store="another"))
    assert chosen.indices == (0, 3)
    assert "make sure that it saw none of these" in chosen.note


def test_an_empty_split_is_refused(store, checkpoint):
    with pytest.raises(DataError, match="has no slice in split 'test'"):
        select_slices(store, "test", 1, checkpoint.card)
