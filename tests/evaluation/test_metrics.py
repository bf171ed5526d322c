import math

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from qdm_med.evaluation.metrics import LPIPS, MAE, PSNR, SOFT_TISSUE_MAE, SSIM, mae_hu, psnr, score_slice, ssim
from qdm_med.intensity import CompandedRange


def image_pair(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 9, generator=generator), size=(48, 60)) * 2 - 1
    return (reference + 0.1 * torch.randn(reference.shape, generator=generator)).clamp(-1, 1), reference


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_psnr_and_ssim_equal_those_of_scikit_image(seed):
    prediction, reference = image_pair(seed)
    ours, truth = prediction[0, 0].double().numpy(), reference[0, 0].double().numpy()
    assert float(psnr(prediction, reference)) == pytest.approx(peak_signal_noise_ratio(truth, ours, data_range=2.0))
    expected = structural_similarity(
        truth, ours, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(ssim(prediction, reference)) == pytest.approx(expected, abs=1e-6)


def test_metrics_of_a_batch_are_those_of_its_images():
    pairs = [image_pair(seed) for seed in range(3)]
    predictions, references = (torch.cat(images) for images in zip(*pairs, strict=True))
    for metric in (psnr, ssim):
        one_by_one = torch.cat([metric(*pair) for pair in pairs])
        torch.testing.assert_close(metric(predictions, references), one_by_one)


def test_equal_images_are_perfect():
    _, reference = image_pair(0)
    scores = score_slice(reference, reference, intensity=CompandedRange())
    assert math.isinf(scores[PSNR])
    assert scores[SSIM] == pytest.approx(1.0)
    assert scores[MAE] == 0.0
    assert LPIPS not in scores


def test_errors_in_hu_are_counted_where_the_truth_is_soft_tissue():
    truth = np.array([[-1000.0, 0.0], [100.0, 1000.0]])
    guess = truth + np.array([[100.0, 4.0], [-8.0, 300.0]])
    assert mae_hu(guess, truth) == pytest.approx(103.0)
    assert mae_hu(guess, truth, within=(-160.0, 240.0)) == pytest.approx(6.0)
    assert math.isnan(mae_hu(guess, truth, within=(2000.0, 2100.0)))


def test_hu_errors_survive_the_mapping_and_overshoot_is_clamped():
    mapping = CompandedRange()
    truth = torch.from_numpy(mapping.to_unit(np.full((1, 1, 32, 32), 40.0)))
    guess = torch.from_numpy(mapping.to_unit(np.full((1, 1, 32, 32), 52.0)))
    scores = score_slice(guess, truth, intensity=mapping)
    assert scores[SOFT_TISSUE_MAE] == pytest.approx(12.0, abs=0.01)
    white = torch.ones(1, 1, 32, 32)
    assert score_slice(white * 5, white, intensity=mapping)[MAE] == 0.0
