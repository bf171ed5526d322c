"""Selection of a benchmark's slices: from a prepared store, or from a tree of CT files prepared on the fly."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from qdm_med.data.store.prepare import build_store
from qdm_med.data.store.slices import HEADER_FILE, INDEX_FILE, SliceStore
from qdm_med.data.store.sources import find_sources
from qdm_med.data.store.splits import Assignment
from qdm_med.errors import DataError


@dataclass(frozen=True)
class WholeTree:
    """A split rule that puts every patient of a tree into one split; none of them is trained on."""

    split: str

    @property
    def description(self) -> str:
        """The rule in words."""
        return f"all patients of the tree in {self.split}"

    def assign(self, file: PurePosixPath, patient: str) -> Assignment:
        """Place a patient; neither the file nor the patient matters."""
        return Assignment(self.split, patient)


@contextmanager
def benchmark_store(data: Path, split: str, keep: Path | None = None) -> Iterator[SliceStore]:
    """Open a store, or prepare one from a tree of CT series and volume files.

    Args:
        data: A folder with a finished store, or one with CT files at any depth.
        split: Split that the patients of a tree are put into.
        keep: Folder in which a store made from a tree stays, for a run that resumes; without it the store is temporary.

    Raises:
        DataError: If the folder holds neither, or a store that is not finished.
    """
    if (data / HEADER_FILE).is_file() or (data / INDEX_FILE).is_file():
        yield SliceStore.open(data)
        return
    tree = find_sources(data, exclude=keep)
    if not tree.series:
        reasons = "; ".join(sorted({one.reason for one in tree.left_out})[:3]) or "no CT series was found"
        raise DataError(f"{data} holds neither a slice store nor CT that can be used: {reasons}; give one of them")
    with tempfile.TemporaryDirectory(prefix="qdm-med-") as temporary:
        place = keep or Path(temporary) / "store"
        if not (place / HEADER_FILE).is_file():
            build_store(tree.series, place, WholeTree(split), left_out=tree.left_out)
        store = SliceStore.open(place)
        if foreign := {record.series for record in store.records} - {one.series for one in tree.series}:
            raise DataError(
                f"{place} holds {len(foreign)} series that are not in {data}; delete it or give another --out"
            )
        yield store


def store_sha256(store: SliceStore) -> str:
    """Checksum of all slices of a store in their order, as training records it in a checkpoint's card."""
    return hashlib.sha256("".join(record.sha256 for record in store.records).encode()).hexdigest()


@dataclass(frozen=True)
class Selection:
    """Slices of a benchmark, none of a patient of the model's training, as far as that can be known.

    Attributes:
        indices: Numbers of the slices in their store.
        note: Evidence that they were not trained on, or that there is none.
    """

    indices: tuple[int, ...]
    note: str


class TrainedModel(Protocol):
    """The part of a card that tells about a model's training."""

    @property
    def name(self) -> str:
        """Name of the model."""
        ...

    @property
    def training(self) -> Mapping[str, Any]:
        """Training data and figures."""
        ...


def select_slices(store: SliceStore, split: str, every: int, *models: TrainedModel) -> Selection:
    """Choose every n-th slice of a split, without the patients of any model's training.

    A card may list the patients of its training (``training.patient_keys``); else it names its store by checksum.

    Raises:
        DataError: If the split is empty, is what a model was trained on, or nothing is left of it.
    """
    indices = kept = store.indices(split)
    notes: list[str] = []
    for model in models:
        listed = model.training.get("patient_keys")
        if isinstance(listed, list):
            kept = _without_patients(store, kept, split, model.name, frozenset(map(str, listed)))
        else:
            notes.append(_word_of_store(store, split, model))
    left_out = len(indices) - len(kept)
    if left_out:
        notes.append(f"{left_out} slices of patients of the training left out")
    return Selection(tuple(kept[::every]), "; ".join(dict.fromkeys(notes)) or "no patient of the training")


def _without_patients(
    store: SliceStore, indices: list[int], split: str, model: str, trained: frozenset[str]
) -> list[int]:
    kept = [index for index in indices if store.records[index].patient not in trained]
    if not kept:
        raise DataError(f"all {len(indices)} slices of split {split} are of patients that {model} was trained on")
    return kept


def _word_of_store(store: SliceStore, split: str, model: TrainedModel) -> str:
    """Say what is known of a model that lists no patients: whether it was trained on another split of this store."""
    if model.training.get("store") != store_sha256(store):
        return f"{model.name} lists no patients and was trained on another store: make sure that it saw none of these"
    if split == "train":
        raise DataError(f"split train of {store.path} is what {model.name} was trained on; give --split val")
    return "patients apart from the training: another split of the same store"
