import math
from pathlib import Path

import numpy as np
import pytest
import torch

from qdm_med.data.degradation.kernels import filter_images, gaussian_kernel, pad_kernel, plateau_kernel, sinc_kernel

GOLDEN = Path(__file__).parents[2] / "golden" / "degradation.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.mark.parametrize(
    ("name", "kernel"),
    [
        ("gauss_k9_s1.3_0.7_t0.4", gaussian_kernel(9, 1.3, 0.7, 0.4)),
        ("gauss_iso_k7_s1.1", gaussian_kernel(7, 1.1, 1.1)),
        ("ggauss_k9_s1.3_0.7_t0.4_b1.2", gaussian_kernel(9, 1.3, 0.7, 0.4, beta=1.2)),
        ("plateau_k9_s1.3_0.7_t0.4_b1.1", plateau_kernel(9, 1.3, 0.7, 0.4, 1.1)),
        ("sinc_k7_c1.5", sinc_kernel(7, 1.5)),
        ("sinc_k11_c2.2_pad21", pad_kernel(sinc_kernel(11, 2.2), 21)),
    ],
)
def test_kernels_are_those_of_the_paper(golden, name, kernel):
    np.testing.assert_allclose(kernel.numpy(), golden[name], rtol=0, atol=1e-12)


def test_filtering_is_that_of_the_paper(golden):
    images = torch.from_numpy(golden["img"])
    gauss = torch.from_numpy(golden["gauss_k9_s1.3_0.7_t0.4"])
    generalised = torch.from_numpy(golden["ggauss_k9_s1.3_0.7_t0.4_b1.2"])
    same = filter_images(images, torch.stack([gauss, gauss]))
    np.testing.assert_allclose(same.numpy(), golden["filter2d_same"], rtol=0, atol=1e-6)
    each = filter_images(images, torch.stack([gauss, generalised]))
    np.testing.assert_allclose(each.numpy(), golden["filter2d_per_image"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("sigma", [0.6, 1.1])
def test_a_gaussian_has_the_variance_it_was_asked_for(sigma):
    kernel = gaussian_kernel(13, sigma, 2 * sigma if sigma < 1 else sigma)
    offset = torch.arange(13, dtype=torch.float64) - 6
    variance_of_columns = float((kernel.sum(0) * offset**2).sum())
    assert math.isclose(variance_of_columns, sigma**2, rel_tol=0.03)


def test_a_sinc_kernel_keeps_low_frequencies_and_stops_high_ones():
    response = torch.fft.fft2(pad_kernel(sinc_kernel(11, math.pi / 2), 65)).abs()[0]
    frequency = 2 * math.pi * torch.arange(65) / 65
    assert response[frequency < math.pi / 5].min() > 0.8
    assert response[(frequency > 0.8 * math.pi) & (frequency <= math.pi)].max() < 0.15


def test_padding_a_kernel_does_not_change_the_image():
    images = torch.rand(2, 1, 20, 24, generator=torch.Generator().manual_seed(0))
    kernels = torch.stack([gaussian_kernel(5, 1.0, 0.5, 0.2), gaussian_kernel(5, 2.0, 2.0)])
    padded = torch.stack([pad_kernel(kernel, 13) for kernel in kernels])
    torch.testing.assert_close(filter_images(images, padded), filter_images(images, kernels), rtol=0, atol=1e-6)


def test_an_even_kernel_is_refused():
    with pytest.raises(ValueError, match="must be odd"):
        gaussian_kernel(4, 1.0, 1.0)
