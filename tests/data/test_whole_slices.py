"""Whole slices as MONAI transforms: degraded by their own pixels, whoever asks and whatever is composed with them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data.dataset import Dataset
from monai.transforms.intensity.dictionary import RandGaussianNoised
from monai.transforms.utility.dictionary import ToTensord

from qdm_med.data.degradation.degrade import BENCHMARK, CLINICAL, SCANNER, degrade
from qdm_med.data.pairs import degraded_pair, full_pairs, pair_of
from qdm_med.data.store.slices import SliceRecord, SliceStore, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.data.whole_slices import SliceCompose, slice_pipeline
from qdm_med.errors import DataError
from qdm_med.intensity import CompandedRange, HuWindow
from qdm_med.keys import slice_degradation

INTENSITY = CompandedRange()


def write_store(path, numbers):
    with SliceStoreWriter(path, slice_shape=(64, 64)) as writer:
        for number in numbers:
            hu = np.random.default_rng(number).integers(-900, 900, (64, 64)).astype(np.int16)
            writer.add(hu, SliceRecord("val", "a", "s", 0.0, 1.0, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "store", range(3))


@pytest.mark.parametrize("degradation", [BENCHMARK, SCANNER, CLINICAL], ids=["bench", "scan", "clin"])
@pytest.mark.parametrize("scale", [4, 8])
def test_a_pair_is_bit_for_bit_what_the_key_of_its_slice_draws(store, degradation, scale):
    for pair in full_pairs(store, "val", scale, degradation, 7, intensity=HuWindow()):
        hu = np.asarray(store.hu(pair.index))
        params = degradation.draw(scale, slice_degradation(7, scale, slice_checksum(hu)))
        high_res = torch.from_numpy(HuWindow().to_unit(hu))[None, None]
        assert pair.params == params
        assert torch.equal(pair.high_res, high_res)
        assert torch.equal(pair.low_res, degrade(high_res, [params], intensity=HuWindow()))


def test_a_record_of_the_degradation_makes_the_same_pair_again_and_another_record_another(store):
    first = degraded_pair(store, 1, 4, BENCHMARK, 7, intensity=INTENSITY)
    again = pair_of(store, 1, first.params, intensity=INTENSITY)
    assert torch.equal(again.low_res, first.low_res)
    other = degraded_pair(store, 1, 4, BENCHMARK, 8, intensity=INTENSITY)
    assert not torch.equal(pair_of(store, 1, other.params, intensity=INTENSITY).low_res, first.low_res)


def test_transforms_of_monai_are_keyed_by_the_slice_in_any_store_and_order(store, tmp_path):
    def noisy(of):
        load, to_unit, last = slice_pipeline(of, BENCHMARK, intensity=INTENSITY, seed=3).transforms
        noise = RandGaussianNoised("image", prob=1.0, std=0.1, sample_std=False)
        return SliceCompose([load, to_unit, noise, ToTensord("image"), last], 3, of)

    items = [{"index": index, "scale": 4} for index in range(3)]
    forwards = [Dataset(items, noisy(store))[number] for number in range(3)]
    turned = Dataset(items, noisy(write_store(tmp_path / "turned", (2, 1, 0))))
    backwards = [turned[number] for number in range(3)][::-1]
    plain = slice_pipeline(store, BENCHMARK, intensity=INTENSITY, seed=3)
    for one, other, item in zip(forwards, backwards, items, strict=True):
        assert torch.equal(one["image"], other["image"])
        assert torch.equal(one["image_low_res"], other["image_low_res"])
        assert one["params"] == plain(item)["params"]
        assert float((one["image"] - plain(item)["image"]).std()) == pytest.approx(0.1, rel=0.1)


def test_the_pipeline_tells_its_stages(store):
    told = repr(slice_pipeline(store, CLINICAL, intensity=INTENSITY, seed=3)).splitlines()
    assert [line.strip().split("(")[0] for line in told] == [
        *("SliceCompose", "LoadSliced", "ToUnitd", "RandDegraded"),
        "], seed=3)",
    ]
    assert "3 slices" in told[1]


def test_an_error_of_ours_comes_out_as_it_is(store):
    with pytest.raises(DataError, match="multiple"):
        degraded_pair(store, 0, 5, BENCHMARK)
