"""The instruments of the clinical benchmark against theory."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.evaluation.clinical.details import Spot, matched_filter
from qdm_med.evaluation.clinical.ring_correlation import resolution
from qdm_med.evaluation.clinical.scan import FineGrid, Scan, kernel_noise, scanned
from qdm_med.evaluation.clinical.transfer import insert_transfer
from qdm_med.inference.source.slice_noise import slice_noise_hu
from qdm_med.resample import block_mean


@pytest.mark.parametrize("sigma", [0.5, 1.0])
def test_the_edge_response_of_a_gaussian_is_the_gaussian_s(sigma):
    scale = 8
    grid = FineGrid(64, scale)
    hu = grid.flat(40.0)
    hu[grid.disc(31.5, 31.5, 18.0)] = 900.0
    found = insert_transfer(gaussian_filter(hu, sigma * scale), 31.5, 31.5, 18.0, scale)
    assert found.mtf50 == pytest.approx(np.sqrt(np.log(2) / 2) / (np.pi * sigma), rel=0.04)
    assert found.mtf10 == pytest.approx(np.sqrt(np.log(10) / 2) / (np.pi * sigma), rel=0.06)
    assert found.overshoot < 0.01


def test_an_insert_that_does_not_stand_out_has_no_rim():
    assert insert_transfer(np.full((128, 128), 40.0), 31.5, 31.5, 18.0, 2) is None


def test_kernel_noise_has_unit_variance_no_power_at_zero_and_a_direction_if_it_is_given_one():
    rng = np.random.default_rng(0)
    noise = kernel_noise((128, 128), 1.2, rng)
    assert noise.std() == pytest.approx(1)
    assert abs(noise.mean()) < 1e-9
    directed = kernel_noise((128, 128), 1.2, rng, direction=0.0)
    along, across = np.diff(directed, axis=0).std(), np.diff(directed, axis=1).std()
    assert across > 2 * along  # its power lies across columns


def test_a_scan_averages_over_pixels_adds_noise_and_rounds():
    truth = np.random.default_rng(1).uniform(0, 100, (64, 64))
    still = scanned(truth, 4, Scan(0.0), np.random.default_rng(0))
    np.testing.assert_array_equal(still, np.rint(truth.reshape(16, 4, 16, 4).mean(axis=(1, 3))))
    noisy = scanned(np.full((512, 512), 50.0), 4, Scan(1.3, 12.0), np.random.default_rng(0))
    assert noisy.std() == pytest.approx(12, rel=0.01)
    assert slice_noise_hu(noisy) == pytest.approx(12, rel=0.1)


def test_fourier_ring_correlation_ends_where_a_low_pass_does():
    truth = np.random.default_rng(2).standard_normal((128, 96)) * 100
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(96), indexing="ij"))
    passed = np.fft.ifft2(np.fft.fft2(truth) * (frequency < 0.2)).real
    noise = np.random.default_rng(3).standard_normal(truth.shape)
    assert resolution(passed + noise, truth) == pytest.approx(0.2, abs=0.03)
    assert resolution(truth, truth) == 0.5


def test_the_matched_filter_tells_contrast_and_falls_with_noise():
    scale, side = 4, 96
    grid = FineGrid(side, scale)
    places = [(12.0 + 14 * row, 12.0 + 14 * column) for row in range(6) for column in range(6)]
    spots = tuple(Spot(*place, 2.5, 20.0 if number % 2 else 0.0) for number, place in enumerate(places))
    hu = grid.flat(50.0)
    for spot in spots:
        hu[grid.disc(spot.row, spot.column, spot.radius)] += spot.hu / 2  # half of the contrast is left
    noise = np.kron(np.random.default_rng(4).standard_normal((side, side)), np.ones((scale, scale)))
    kept, quiet = matched_filter(hu + 4 * noise, spots, scale)
    _, loud = matched_filter(hu + 8 * noise, spots, scale)
    assert kept == pytest.approx(0.5, abs=0.05)
    assert quiet == pytest.approx(2 * loud, rel=0.2)


def test_the_fine_grid_lies_over_the_source_s_pixels():
    grid = FineGrid(6, 4)
    assert block_mean(grid.rows.repeat(24, axis=1), 4)[:, 0].tolist() == pytest.approx(range(6))
    inside = grid.disc(2.0, 3.0, 1.0)
    rows, columns = np.nonzero(inside)
    assert (rows.mean() + 0.5) / 4 - 0.5 == pytest.approx(2.0)
    assert (columns.mean() + 0.5) / 4 - 0.5 == pytest.approx(3.0)
