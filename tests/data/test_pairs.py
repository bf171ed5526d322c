from collections import Counter

import numpy as np
import pytest
import torch

from qdm_med.data.degradation.degrade import BENCHMARK, SCANNER, degrade
from qdm_med.data.pairs import PairSampler, full_pairs
from qdm_med.data.pipeline import TruthConfig
from qdm_med.data.store.slices import SliceRecord, SliceStore, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, HuWindow


def write_store(path, patients: list[str], side: int = 64) -> SliceStore:
    """Flat slices whose HU is their number, so that a crop tells where it comes from."""
    with SliceStoreWriter(path, shard_size=8, slice_shape=(side, side)) as writer:
        for number, patient in enumerate(patients):
            hu = np.full((side, side), number, dtype=np.int16)
            split = "val" if patient == "v" else "train"
            writer.add(hu, SliceRecord(split, patient, "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("store"), [*["a"] * 18, "b", "c", "v", "v"])


def sampler(store, **changes) -> PairSampler:
    options = {"split": "train", "crop": 32, "scales": (4, 8), "degradation": BENCHMARK, "seed": 5} | changes
    return PairSampler(store, **options)


def test_a_batch_is_a_function_of_seed_and_step(store):
    once, again = sampler(store).batch(3, 4), sampler(store).batch(3, 4)
    assert torch.equal(once.high_res, again.high_res)
    assert torch.equal(once.low_res, again.low_res)
    assert once.low_res.shape == (4, 1, 32 // once.scale, 32 // once.scale)
    for other in (sampler(store).batch(4, 4), sampler(store, seed=6).batch(3, 4)):
        assert not torch.equal(once.high_res, other.high_res)


def test_ranks_share_one_batch_between_them(store):
    whole = sampler(store).batch(9, 5)
    for rank in range(2):
        part = sampler(store).batch(9, 5, rank=rank, world_size=2)
        assert part.scale == whole.scale
        assert torch.equal(part.high_res, whole.high_res[rank::2])
        assert torch.equal(part.low_res, whole.low_res[rank::2])


def test_every_scale_is_drawn_and_only_training_slices_are(store):
    batches = [sampler(store).batch(step, 2) for step in range(30)]
    assert {batch.scale for batch in batches} == {4, 8}
    hu = np.concatenate([CompandedRange().to_hu(batch.high_res.numpy()).ravel() for batch in batches])
    assert hu.max() < 19.5  # slices 20 and 21 belong to val


def test_patients_with_few_slices_get_half_a_fair_share_on_top_of_their_slices(store):
    draws = sampler(store, crop=32, scales=(4,)).batch(0, 1500).high_res[:, 0, 0, 0].numpy()
    counts = Counter(np.rint(CompandedRange().to_hu(draws)).astype(int).tolist())
    share_of_b = counts[18] / 1500
    assert share_of_b == pytest.approx(0.5 / 20 + 0.5 / 3, abs=0.04)


def test_crops_come_from_everywhere_and_half_are_mirrored(tmp_path):
    with SliceStoreWriter(tmp_path, shard_size=1, slice_shape=(40, 48)) as writer:
        row, column = np.mgrid[:40, :48]
        hu = (row * 48 + column - 1000).astype(np.int16)
        writer.add(hu, SliceRecord("train", "a", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    window = HuWindow(centre=0, width=4000)
    batch = sampler(SliceStore.open(tmp_path), crop=32, scales=(4,), intensity=window).batch(0, 400)
    hu = np.rint(window.to_hu(batch.high_res[:, 0].numpy())).astype(int) + 1000
    mirrored = hu[:, 0, 0] > hu[:, 0, 1]
    assert mirrored.mean() == pytest.approx(0.5, abs=0.1)
    corner = hu[:, 0].min(axis=1)
    assert set((corner // 48).tolist()) == set(range(9))
    assert set((corner % 48).tolist()) == set(range(17))


def test_crops_that_do_not_fit_are_refused(store):
    with pytest.raises(ConfigError, match="larger than the store's slices"):
        sampler(store, crop=128)
    with pytest.raises(ConfigError, match="multiple of every scale"):
        sampler(store, crop=36)


def test_a_whole_slice_is_degraded_alike_in_any_store(tmp_path, store):
    other = write_store(tmp_path / "other", [*["a"] * 20, "v"])
    first = next(full_pairs(store, "val", 4, BENCHMARK, 1))
    same = next(full_pairs(other, "val", 4, BENCHMARK, 1))
    assert first.record.sha256 == same.record.sha256
    assert torch.equal(first.low_res, same.low_res)
    assert torch.equal(first.low_res, degrade(first.high_res, [first.params]))
    assert next(full_pairs(store, "val", 4, BENCHMARK, 2)).params != first.params
    assert next(full_pairs(store, "val", 8, BENCHMARK, 1)).low_res.shape == (1, 1, 8, 8)


def test_pairs_cover_the_split_in_order(store):
    assert [pair.index for pair in full_pairs(store, "val", 4, BENCHMARK)] == store.indices("val")


def test_noise_in_hu_has_the_mapping_of_its_sampler(store):
    window = HuWindow()
    pair = next(full_pairs(store, "val", 4, SCANNER, intensity=window))
    assert torch.equal(pair.low_res, degrade(pair.high_res, [pair.params], intensity=window))
    batch = sampler(store, degradation=SCANNER, intensity=window).batch(0, 4)
    hu = window.to_hu(batch.low_res.numpy())
    np.testing.assert_allclose(hu, np.round(hu), atol=1e-3)  # a scanner stores whole HU
    assert np.ptp(hu) > 10


def test_synthetic_truth_takes_its_share_and_leaves_the_other_items_as_they_are(store):
    made_up = sampler(store, truth=TruthConfig(synthetic_share=1.0)).batch(0, 6).high_res
    assert len({image.std().item() for image in made_up}) > 1  # the store's slices are flat
    plain, half = sampler(store).batch(0, 40), sampler(store, truth=TruthConfig(synthetic_share=0.5)).batch(0, 40)
    flat = [bool(image.min() == image.max()) for image in half.high_res]
    assert 8 < sum(flat) < 36
    assert all(image.min() == image.max() for image in plain.high_res)


def test_noisy_references_are_drawn_less_often_than_quiet_ones(tmp_path):
    rng = np.random.default_rng(0)
    with SliceStoreWriter(tmp_path / "noisy", shard_size=8, slice_shape=(64, 64)) as writer:
        for number, deviation in enumerate((1.0, 60.0)):
            hu = np.round(deviation * rng.standard_normal((64, 64))).astype(np.int16)
            writer.add(
                hu, SliceRecord("train", f"p{number}", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu))
            )
    noisy_store = SliceStore.open(tmp_path / "noisy")
    counts = {}
    for quiet_hu in (0.0, 20.0):
        drawn = sampler(noisy_store, truth=TruthConfig(quiet_hu=quiet_hu)).batch(1, 200).high_res
        counts[quiet_hu] = sum(image.std() > 0.03 for image in drawn)
    assert 80 < counts[0.0] < 120
    assert counts[20.0] < 40


def test_turned_crops_come_in_all_orientations(tmp_path):
    ramp = np.tile(np.arange(64, dtype=np.int16), (64, 1))
    with SliceStoreWriter(tmp_path / "ramp", shard_size=8, slice_shape=(64, 64)) as writer:
        writer.add(ramp, SliceRecord("train", "p", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(ramp)))
    images = sampler(SliceStore.open(tmp_path / "ramp"), truth=TruthConfig(turned=True)).batch(0, 40).high_res
    slopes = {(float((i[0, -1, 0] - i[0, 0, 0]).sign()), float((i[0, 0, -1] - i[0, 0, 0]).sign())) for i in images}
    assert slopes == {(0.0, 1.0), (0.0, -1.0), (1.0, 0.0), (-1.0, 0.0)}
