import pytest
import torch
from monai.transforms.compose import Compose
from monai.transforms.utility.dictionary import ToTensord

from qdm_med.data.degradation.degrade import SCANNER, degrade
from qdm_med.data.degradation.scanner import ScannerParams
from qdm_med.data.degradation.transforms import RandDegraded
from qdm_med.intensity import CompandedRange, HuWindow

IMAGE = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_transform_is_the_degradation_of_its_recorded_parameters():
    transform = RandDegraded("image", scale=4).set_random_state(seed=3)
    item = {"image": IMAGE, "name": "x"}
    result = transform(item)
    assert item.keys() == {"image", "name"}
    assert torch.equal(result["image_low_res"], degrade(IMAGE[None], [transform.params])[0])
    assert torch.equal(result["image"], IMAGE)


def test_the_same_random_state_gives_the_same_images():
    first = RandDegraded("image", scale=8).set_random_state(seed=3)
    second = RandDegraded("image", scale=8).set_random_state(seed=3)
    results = [(first({"image": IMAGE}), second({"image": IMAGE})) for _ in range(2)]
    for one, other in results:
        assert torch.equal(one["image_low_res"], other["image_low_res"])
    assert not torch.equal(results[0][0]["image_low_res"], results[1][0]["image_low_res"])


@pytest.mark.parametrize("intensity", [None, HuWindow()])
def test_any_configuration_serves_and_the_mapping_to_hu_is_the_users(intensity):
    transform = RandDegraded("image", scale=4, config=SCANNER, intensity=intensity).set_random_state(seed=3)
    low_res = transform({"image": IMAGE})["image_low_res"]
    assert isinstance(transform.params, ScannerParams)
    assert torch.equal(low_res, degrade(IMAGE[None], [transform.params], intensity=intensity or CompandedRange())[0])


def test_it_composes_with_monais_transforms():
    pipeline = Compose([RandDegraded("image", scale=4, config=SCANNER), ToTensord(["image", "image_low_res"])])
    assert pipeline({"image": IMAGE.numpy()})["image_low_res"].shape == (1, 16, 16)
