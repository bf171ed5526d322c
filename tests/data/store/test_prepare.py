from pathlib import PurePosixPath

import numpy as np
import pytest

from qdm_med.data.store.conversion import converted
from qdm_med.data.store.prepare import build_store
from qdm_med.data.store.slices import SliceStore
from qdm_med.data.store.sources import LeftOut, SourceSeries
from qdm_med.data.store.splits import Assignment, HashSplit
from qdm_med.errors import DataError, SeriesError
from qdm_med.volume import CtSlice, Geometry, Provenance, Volume


def anatomy(patient: str, number: int, side: int = 512) -> np.ndarray:
    rng = np.random.default_rng([*patient.encode(), number])
    coarse = rng.integers(-1000, 300, (8, 8)).astype(np.float32)
    return np.kron(coarse, np.ones((side // 8, side // 8), dtype=np.float32))


def series(patient: str, images: list[np.ndarray], *, name: str = "1", spacing: float = 0.8) -> SourceSeries:
    def open_volume() -> Volume:
        shape = (len(images), *images[0].shape)
        slices = tuple(
            CtSlice(image, np.zeros(image.shape, dtype=bool), 2.0 * number) for number, image in enumerate(images)
        )
        return Volume(slices, Geometry(shape, np.diag([2.0, spacing, spacing, 1.0])), Provenance("memory", name))

    files = tuple(PurePosixPath(f"{patient}/{name}/{number}.dcm") for number in range(len(images)))
    return SourceSeries(f"{patient}/{name}", patient, f"{patient}-{name}", files, open_volume, 2.5, "STD", "V")


class ByName:
    """Patients whose name starts with v are val; those with x are not listed."""

    description = "by name"

    def assign(self, file: PurePosixPath, patient: str) -> Assignment | None:
        if patient.startswith("x"):
            return None
        return Assignment("val" if patient.startswith("v") else "train", patient, "phantoms")


def test_every_slice_comes_into_the_store_with_what_is_known_about_it(tmp_path):
    found = [
        series("a", [anatomy("a", n) for n in range(3)]),
        series("v", [anatomy("v", 0, 1024)], spacing=0.4),
    ]
    report = build_store(found, tmp_path / "store", ByName())
    store = SliceStore.open(tmp_path / "store")
    store.verify()
    np.testing.assert_array_equal(store.hu(2), anatomy("a", 2))
    assert [record.position_mm for record in store.records] == [0.0, 2.0, 4.0, 0.0]
    assert [record.pixel_spacing_mm for record in store.records] == [0.8, 0.8, 0.8, 0.8]
    assert store.records[0].source == "phantoms"
    assert store.split_rule == "by name"
    assert report.slices == {"train": 3, "val": 1}
    assert report.patients == {"train": 1, "val": 1}
    assert report.resampled == 1
    assert "4 slices of 2 series (train 3 slices of 1 patients, val 1 slices of 1 patients)" in report.summary()


def broken() -> Volume:
    raise SeriesError("b/1/0.dcm: pixel data is cut short; copy the file again")


def test_what_is_left_out_is_reported_with_its_reason(tmp_path):
    twice = anatomy("a", 0)
    found = [
        series("a", [twice, anatomy("a", 1), twice]),
        series("b", [np.zeros((512, 400), dtype=np.float32)]),
        series("c", [np.zeros((128, 128), dtype=np.float32)] * 4),
        series("d", [np.full((512, 512), -1000.0, dtype=np.float32)]),
        series("x", [anatomy("x", 0)]),
        SourceSeries("b/1", "b", "b-1", (PurePosixPath("b/1/0.dcm"),), broken),
    ]
    report = build_store(found, tmp_path / "store", ByName(), left_out=[LeftOut("notes.txt", "not an image", 1)])
    assert len(SliceStore.open(tmp_path / "store")) == 2
    assert {(one.where, one.reason, one.count) for one in report.left_out} == {
        ("notes.txt", "not an image", 1),
        ("a/1", "exact duplicate", 1),
        ("b/1", "matrix 512 x 400 is not square", 1),
        ("c/1", "matrix 128 x 128 is smaller than 512; a reference is never enlarged", 4),
        ("d/1", "empty slice", 1),
        ("x/1", "not in the split list", 1),
        ("b/1", "unreadable: b/1/0.dcm: pixel data is cut short; copy the file again", 0),
    }
    assert "left out: 4 (matrix 128 x 128 is smaller than 512; a reference is never enlarged)" in report.summary()


def test_the_same_person_under_two_names_in_two_splits_is_refused(tmp_path):
    noisy = anatomy("a", 1) + np.random.default_rng(0).normal(0, 20, (512, 512)).astype(np.float32)
    found = [series("a", [anatomy("a", n) for n in range(3)]), series("v", [anatomy("v", 0), noisy])]
    with pytest.raises(DataError, match=r"patient a \(train\) and patient v \(val\).*the same person in two splits"):
        build_store(found, tmp_path / "store", ByName())
    with pytest.raises(DataError, match="unfinished"):
        SliceStore.open(tmp_path / "store")


def test_a_patient_in_two_splits_is_refused(tmp_path):
    class ByFile(ByName):
        def assign(self, file, patient):
            return Assignment("val" if file.name == "1.dcm" else "train", patient)

    with pytest.raises(DataError, match="patient a is in splits train and val"):
        build_store([series("a", [anatomy("a", 0), anatomy("a", 1)])], tmp_path / "store", ByFile())


def test_a_killed_run_continues_without_reading_finished_series_again(tmp_path):
    images = {name: [anatomy(name, n) for n in range(3)] for name in "abc"}
    build_store([series(name, images[name]) for name in "abc"], tmp_path / "whole", ByName(), shard_size=2)

    def killed() -> Volume:
        raise KeyboardInterrupt

    def never() -> Volume:
        raise AssertionError("a finished series was opened again")

    stop = SourceSeries("c/1", "c", "c-1", (PurePosixPath("c"),), killed)
    with pytest.raises(KeyboardInterrupt):
        build_store(
            [series("a", images["a"]), series("b", images["b"]), stop], tmp_path / "cut", ByName(), shard_size=2
        )
    done = SourceSeries("a/1", "a", "a-1", (PurePosixPath("a"),), never)
    report = build_store(
        [done, series("b", images["b"]), series("c", images["c"])], tmp_path / "cut", ByName(), shard_size=2
    )
    assert report.kept == 6
    assert report.left_out == ()
    for path in (tmp_path / "whole").iterdir():
        assert (tmp_path / "cut" / path.name).read_bytes() == path.read_bytes()


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(
        DataError,
        match="matrix 64 x 64 is smaller than 512; a reference is never enlarged; give a folder with CT series",
    ):
        build_store([series("a", [np.zeros((64, 64), dtype=np.float32)])], tmp_path / "store", HashSplit())


def test_progress_counts_series_with_the_share_of_the_one_in_hand(tmp_path):
    seen = []
    found = [series("a", [anatomy("a", n) for n in range(4)]), series("b", [anatomy("b", 0)])]
    build_store(found, tmp_path / "store", ByName(), progress=lambda *now: seen.append(now))
    assert seen == [
        (0.0, 2, "0 slices"),
        (0.25, 2, "1 slices"),
        (0.5, 2, "2 slices"),
        (0.75, 2, "3 slices"),
        (1.0, 2, "4 slices"),
        (2.0, 2, "5 slices"),
    ]


def test_what_is_converted_elsewhere_counts_before_it_is_added_and_once(tmp_path):
    found = [series(name, [anatomy(name, n) for n in range(2)]) for name in "abc"]
    seen = []

    def elsewhere(todo, told):
        told("b/1/0.dcm", 0.5)
        told("a/1/0.dcm", 0.5)
        told("b/1/0.dcm", 1.0)
        told("a/1/0.dcm", 0.25)  # its worker was lost
        yield from converted(todo, lambda first_file, share: None)
        told("a/1/0.dcm", 0.5)

    build_store(found, tmp_path / "store", ByName(), converting=elsewhere, progress=lambda *now: seen.append(now))
    assert [done for done, _, _ in seen] == [0, 0.5, 1.0, 1.5, 2.0, 3.0]
    assert [detail for *_, detail in seen] == ["0 slices"] * 4 + ["2 slices", "6 slices"]
