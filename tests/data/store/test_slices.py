import json

import numpy as np
import pytest

from qdm_med.data.store.slices import SliceRecord, SliceStore, anonymous_key, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.errors import DataError

SHAPE = (8, 6)


def plane(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(-1024, 3072, SHAPE, dtype=np.int16)


def record(hu: np.ndarray, *, split: str = "train", patient: str = "a") -> SliceRecord:
    return SliceRecord(split, anonymous_key(patient), "s", 1.5, 0.7, 2.5, "STD", "V", "phantom", slice_checksum(hu))


def write(path, count: int, *, shard_size: int = 4) -> None:
    with SliceStoreWriter(path, shard_size=shard_size, slice_shape=SHAPE, split_rule="by hand") as writer:
        for number in range(count):
            writer.add(plane(number), record(plane(number), split="val" if number == 2 else "train"))


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_store_gives_back_every_slice_and_record(tmp_path, count):
    write(tmp_path / "store", count)
    store = SliceStore.open(tmp_path / "store")
    assert len(store) == count
    assert store.split_rule == "by hand"
    for number in range(count):
        np.testing.assert_array_equal(store.hu(number), plane(number))
        assert store.records[number].sha256 == slice_checksum(plane(number))
    store.verify()


def test_slices_are_read_only_views_of_the_disk(tmp_path):
    write(tmp_path / "store", 5)
    view = SliceStore.open(tmp_path / "store").hu(3)
    assert isinstance(view, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


def test_indices_of_splits_are_disjoint_and_complete(tmp_path):
    write(tmp_path / "store", 6)
    store = SliceStore.open(tmp_path / "store")
    assert store.indices("val") == [2]
    assert sorted(store.indices("train") + store.indices("val")) == list(range(6))
    with pytest.raises(DataError, match="no slice in split 'test'"):
        store.indices("test")


def test_slices_are_spread_evenly_over_patients(tmp_path):
    with SliceStoreWriter(tmp_path / "store", shard_size=4, slice_shape=SHAPE) as writer:
        for number, (patient, split) in enumerate([("b", "train")] * 6 + [("a", "train")] + [("c", "val")]):
            writer.add(plane(number), record(plane(number), split=split, patient=patient))
    store = SliceStore.open(tmp_path / "store")
    of = {anonymous_key("a"): [6], anonymous_key("b"): [1, 4]}
    assert store.spread_over_patients("train", 2) == of
    assert list(store.spread_over_patients("train", 2)) == sorted(of)
    assert store.spread_over_patients("train", 9)[anonymous_key("b")] == [0, 1, 2, 3, 4, 5]
    with pytest.raises(DataError, match="no slice in split 'test'"):
        store.spread_over_patients("test", 2)


def test_a_killed_writer_continues_and_gives_the_same_bytes(tmp_path):
    write(tmp_path / "whole", 10)
    killed = SliceStoreWriter(tmp_path / "cut", shard_size=4, slice_shape=SHAPE, split_rule="by hand").__enter__()
    for number in range(7):
        killed.add(plane(number), record(plane(number), split="val" if number == 2 else "train"))
    killed.__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)
    with (tmp_path / "cut" / "index.jsonl").open("a") as index:
        index.write('{"split": "tr')  # half a line, as a power cut leaves it
    with SliceStoreWriter(tmp_path / "cut", shard_size=4, slice_shape=SHAPE, split_rule="by hand") as writer:
        assert [kept.sha256 for kept in writer.kept] == [slice_checksum(plane(number)) for number in range(4)]
        for number in range(4, 10):
            writer.add(plane(number), record(plane(number)))
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "cut").iterdir())
    for name in files:
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_store_is_not_continued_under_another_split_rule(tmp_path):
    SliceStoreWriter(tmp_path, shard_size=4, slice_shape=SHAPE, split_rule="one").__enter__()
    SliceStoreWriter(tmp_path, shard_size=4, slice_shape=SHAPE, split_rule="one").__enter__()
    for other in ({"split_rule": "two"}, {"split_rule": "one", "shard_size": 5}):
        with pytest.raises(DataError, match="another split rule or shard size; delete it"):
            SliceStoreWriter(tmp_path, **{"shard_size": 4, "slice_shape": SHAPE} | other).__enter__()


def test_an_unfinished_store_is_not_opened(tmp_path):
    writer = SliceStoreWriter(tmp_path, shard_size=4, slice_shape=SHAPE)
    writer.__enter__()
    with pytest.raises(DataError, match="unfinished slice store; build it with qdm-med prepare"):
        SliceStore.open(tmp_path)


def test_a_finished_store_is_not_overwritten(tmp_path):
    write(tmp_path / "store", 2)
    with pytest.raises(DataError, match="already holds a finished slice store"):
        write(tmp_path / "store", 2)


def test_a_changed_pixel_is_found(tmp_path):
    write(tmp_path / "store", 5)
    shard = tmp_path / "store" / "shard-00001.npy"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=r"shard-00001\.npy: slice 4 differs from its checksum"):
        SliceStore.open(tmp_path / "store").verify()


def cut_shard(store):
    path = store / "shard-00000.npy"
    path.write_bytes(path.read_bytes()[:-10])


def drop_index_line(store):
    path = store / "index.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def add_key(store):
    path = store / "index.jsonl"
    first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([json.dumps({**json.loads(first), "name": "x"}), *rest]) + "\n")


def other_version(store):
    path = store / "store.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))


@pytest.mark.parametrize(
    "damage",
    [
        cut_shard,
        drop_index_line,
        add_key,
        other_version,
        lambda store: (store / "shard-00001.npy").unlink(),
        lambda store: (store / "store.json").write_text("{"),
        lambda store: (store / "index.jsonl").unlink(),
    ],
)
def test_damage_is_named_with_the_remedy(tmp_path, damage):
    write(tmp_path / "store", 5)
    damage(tmp_path / "store")
    with pytest.raises(DataError, match="qdm-med prepare") as caught:
        SliceStore.open(tmp_path / "store")
    assert "\n" not in str(caught.value)


def test_pixels_that_do_not_fit_are_refused(tmp_path):
    with SliceStoreWriter(tmp_path, shard_size=4, slice_shape=SHAPE) as writer:
        with pytest.raises(DataError, match="must be int16"):
            writer.add(plane(0).astype(np.float32), record(plane(0)))
        with pytest.raises(DataError, match="checksum"):
            writer.add(plane(0), record(plane(1)))
        with pytest.raises(DataError, match="unknown; known: train, val, test"):
            record(plane(0), split="holdout")
