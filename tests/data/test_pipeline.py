"""Training pairs as MONAI transforms: a function of the item's key, whoever makes it and whatever is composed with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.transforms.intensity.dictionary import RandGaussianNoised
from monai.transforms.utility.dictionary import ToTensord

from qdm_med.data.degradation.degrade import BENCHMARK, CLINICAL, SCANNER, TRAINING, degrade
from qdm_med.data.pairs import PairSampler
from qdm_med.data.pipeline import KeyedCompose, TruthConfig, pair_pipeline
from qdm_med.data.store.slices import SliceRecord, SliceStore, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.errors import DataError
from qdm_med.intensity import CompandedRange
from qdm_med.keys import rng

INTENSITY = CompandedRange()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Seven slices of two patients."""
    folder = tmp_path_factory.mktemp("data") / "store"
    with SliceStoreWriter(folder, slice_shape=(48, 48)) as writer:
        for number in range(7):
            hu = np.random.default_rng(number).integers(-900, 900, (48, 48)).astype(np.int16)
            patient = "a" if number < 5 else "b"
            writer.add(hu, SliceRecord("train", patient, "s", 0.0, 1.0, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(folder)


def pipeline(store, **changes):
    options = {"split": "train", "crop": 32, "degradation": BENCHMARK, "intensity": INTENSITY, "seed": 3} | changes
    return pair_pipeline(store, **options)


def items(count, scale=4):
    return [{"step": 5, "item": item, "scale": scale} for item in range(count)]


def drawn_by_hand(store, degradation, step, item, scale, *, turned):
    """The same pair from the draws of its key, in their order, without a transform."""
    own = rng(3, "crop", step, item)
    patients = [[0, 1, 2, 3, 4], [5, 6]]
    group = list(range(7)) if own.random() < 0.5 else patients[own.integers(2)]
    hu = store.hu(group[own.integers(len(group))])
    row, column = own.integers(17), own.integers(17)
    crop = hu[row : row + 32, column : column + 32]
    crop = crop[:, ::-1] if own.random() < 0.5 else crop
    crop = np.rot90(crop, own.integers(4)) if turned else crop
    high_res = torch.from_numpy(INTENSITY.to_unit(crop.astype(np.float32)))[None, None]
    return high_res[0], degrade(high_res, [degradation.draw(scale, own)], intensity=INTENSITY)[0]


@pytest.mark.parametrize(
    "degradation", [BENCHMARK, TRAINING, SCANNER, CLINICAL], ids=["bench", "train", "scan", "clin"]
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_batch_is_bit_for_bit_what_its_keys_draw(store, degradation, turned):
    truth = TruthConfig(turned=turned)
    sampler = PairSampler(
        store, split="train", crop=32, scales=(4, 8), degradation=degradation, intensity=INTENSITY, seed=3, truth=truth
    )
    batch = sampler.batch(11, 6)
    for item in range(6):
        high_res, low_res = drawn_by_hand(store, degradation, 11, item, batch.scale, turned=turned)
        assert torch.equal(batch.high_res[item], high_res)
        assert torch.equal(batch.low_res[item], low_res)


def test_neither_order_nor_processes_matter(store):
    pairs = Dataset(items(6), pipeline(store))
    forwards = [pairs[number] for number in range(6)]
    backwards = [pairs[number] for number in reversed(range(6))][::-1]
    (elsewhere,) = DataLoader(pairs, batch_size=6, num_workers=1)
    for number, (one, other) in enumerate(zip(forwards, backwards, strict=True)):
        for key in ("image", "image_low_res"):
            assert torch.equal(one[key], other[key])
            assert torch.equal(one[key], elsewhere[key][number])
    assert not torch.equal(forwards[0]["image"], forwards[1]["image"])


def test_transforms_of_monai_that_draw_are_keyed_by_the_item_too(store):
    plain = pipeline(store)
    *before, last = plain.transforms
    noisy = KeyedCompose(
        [*before, RandGaussianNoised("image", prob=1.0, std=0.1, sample_std=False), ToTensord("image"), last], seed=3
    )
    forwards = [noisy(item) for item in items(4)]
    backwards = [noisy(item) for item in reversed(items(4))][::-1]
    for one, other, without in zip(forwards, backwards, map(plain, items(4)), strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["image_low_res"], other["image_low_res"])
        assert float((one["image"] - without["image"]).std()) == pytest.approx(0.1, rel=0.1)
    first, second = (one["image"] - plain(item)["image"] for one, item in zip(forwards[:2], items(2), strict=True))
    assert not torch.allclose(first, second, atol=1e-3)


def test_a_sampler_trains_on_the_pipeline_that_it_is_given(store):
    sampler = PairSampler(
        store, split="train", crop=32, scales=(4,), degradation=BENCHMARK, intensity=INTENSITY, seed=3
    )
    before = sampler.batch(0, 2)
    sampler.pipeline = KeyedCompose([*sampler.pipeline.transforms, Darker()], seed=3)
    after = sampler.batch(0, 2)
    torch.testing.assert_close(after.high_res, before.high_res - 0.25)
    assert torch.equal(after.low_res, before.low_res)


class Darker:
    def __call__(self, data):
        return {**data, "image": data["image"] - 0.25}


def test_a_pipeline_tells_its_stages_in_their_order(store):
    told = repr(pipeline(store, truth=TruthConfig(turned=True))).splitlines()
    stages = [line.strip().split("(")[0] for line in told[1:-1]]
    assert stages == ["RandLoadReferenced", "RandCropReferenced", "RandFlipReferenced", "ToUnitd", "RandDegraded"]
    assert told[0] == "KeyedCompose(["
    assert "7 slices of train" in told[1]
    assert told[-1] == "], seed=3)"


def test_an_error_of_ours_comes_out_as_it_is(store):
    with pytest.raises(DataError, match="smaller than a blur kernel"):
        pipeline(store, crop=8)(items(1)[0])


def test_an_error_of_others_comes_out_too(store):
    broken = KeyedCompose([*pipeline(store).transforms[:2], lambda item: 1 / 0], seed=0)
    with pytest.raises(RuntimeError):
        broken(items(1)[0])


def test_made_up_truths_are_neither_cropped_nor_mirrored(store):
    made_up = pipeline(store, truth=TruthConfig(synthetic_share=1.0))
    item = made_up(items(1)[0])
    assert (item["image"].shape, item["image_low_res"].shape) == ((1, 32, 32), (1, 8, 8))
    assert item["scanned"] is False
