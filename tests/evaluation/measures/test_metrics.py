import math

import numpy as np
import pytest
import torch
from scipy.ndimage import correlate1d
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from qdm_med.evaluation.measures.metrics import mae_hu, ms_ssim, psnr, ssim


def image_pair(seed: int, size: tuple[int, int] = (48, 60)) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    reference = torch.nn.functional.interpolate(torch.rand(1, 1, 8, 9, generator=generator), size=size) * 2 - 1
    return (reference + 0.1 * torch.randn(reference.shape, generator=generator)).clamp(-1, 1), reference


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("data_range", [2.0, 255.0, 4095.0])
def test_psnr_and_ssim_equal_those_of_scikit_image(seed, data_range):
    prediction, reference = (image * data_range / 2 for image in image_pair(seed))
    ours, truth = prediction[0, 0].double().numpy(), reference[0, 0].double().numpy()
    expected = peak_signal_noise_ratio(truth, ours, data_range=data_range)
    assert float(psnr(prediction, reference, data_range)) == pytest.approx(expected)
    expected = structural_similarity(
        truth, ours, data_range=data_range, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    assert float(ssim(prediction, reference, data_range)) == pytest.approx(expected, abs=1e-6)


def test_a_mask_takes_the_pixels_and_windows_that_scikit_image_would():
    prediction, reference = image_pair(0)
    ours, truth = prediction[0, 0].double().numpy(), reference[0, 0].double().numpy()
    mask = np.zeros(truth.shape, dtype=bool)
    mask[10:30, 20:40] = True
    where = torch.from_numpy(mask)
    expected = peak_signal_noise_ratio(truth[mask], ours[mask], data_range=2.0)
    assert float(psnr(prediction, reference, 2.0, where)) == pytest.approx(expected)
    _, similarity = structural_similarity(
        truth, ours, data_range=2.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True
    )
    assert float(ssim(prediction, reference, 2.0, where)) == pytest.approx(similarity[mask].mean(), abs=1e-6)
    assert math.isnan(float(psnr(prediction, reference, 2.0, torch.zeros_like(where))))
    assert math.isnan(float(ssim(prediction, reference, 2.0, torch.zeros_like(where))))


def gaussian_windows(image: np.ndarray) -> np.ndarray:
    """Means under an 11-tap Gaussian of sigma 1.5, whole windows only."""
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    taps /= taps.sum()
    return correlate1d(correlate1d(image, taps, axis=0), taps, axis=1)[5:-5, 5:-5]


def written_out_ms_ssim(first: np.ndarray, second: np.ndarray, data_range: float) -> float:
    """Wang, Simoncelli and Bovik (Asilomar 2003), equation 7."""
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    product = 1.0
    for scale, weight in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        if scale:
            first, second = (
                image.reshape(image.shape[0] // 2, 2, image.shape[1] // 2, 2).mean(axis=(1, 3))
                for image in (first, second)
            )
        mean = gaussian_windows(first), gaussian_windows(second)
        variance = gaussian_windows(first**2) - mean[0] ** 2, gaussian_windows(second**2) - mean[1] ** 2
        covariance = gaussian_windows(first * second) - mean[0] * mean[1]
        contrast = (2 * covariance + c2) / (sum(variance) + c2)
        luminance = (2 * mean[0] * mean[1] + c1) / (mean[0] ** 2 + mean[1] ** 2 + c1)
        factor = (contrast * luminance).mean() if scale == 4 else contrast.mean()
        product *= factor**weight
    return product


@pytest.mark.parametrize("data_range", [2.0, 4095.0])
def test_ms_ssim_is_its_definition_written_out(data_range):
    prediction, reference = (image * data_range / 2 for image in image_pair(3, (192, 208)))
    expected = written_out_ms_ssim(prediction[0, 0].double().numpy(), reference[0, 0].double().numpy(), data_range)
    assert float(ms_ssim(prediction, reference, data_range)) == pytest.approx(expected, abs=1e-6)
    assert float(ms_ssim(reference, reference, data_range)) == pytest.approx(1.0)


def test_ms_ssim_needs_five_scales():
    assert math.isnan(float(ms_ssim(*image_pair(0, (175, 200)))))
    assert math.isfinite(float(ms_ssim(*image_pair(0, (176, 200)))))


def test_metrics_of_a_batch_are_those_of_its_images():
    pairs = [image_pair(seed) for seed in range(3)]
    predictions, references = (torch.cat(images) for images in zip(*pairs, strict=True))
    for metric in (psnr, ssim):
        one_by_one = torch.cat([metric(*pair) for pair in pairs])
        torch.testing.assert_close(metric(predictions, references), one_by_one)


def test_errors_in_hu_are_counted_where_the_truth_is_soft_tissue():
    truth = np.array([[-1000.0, 0.0], [100.0, 1000.0]])
    guess = truth + np.array([[100.0, 4.0], [-8.0, 300.0]])
    assert mae_hu(guess, truth) == pytest.approx(103.0)
    assert mae_hu(guess, truth, within=(-160.0, 240.0)) == pytest.approx(6.0)
    assert math.isnan(mae_hu(guess, truth, within=(2000.0, 2100.0)))
