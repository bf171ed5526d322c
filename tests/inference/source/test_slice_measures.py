"""Noise and point spread read from slices whose noise and point spread are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.inference.source.point_spread import fwhm_pixels
from qdm_med.inference.source.slice_noise import slice_noise_hu

FINE = 6
SIDE = 192


def body(fwhm, noise, seed=0):
    """An ellipse of muscle with lung and bone, scanned with a Gaussian point spread and coloured noise."""
    y, x = (np.mgrid[: SIDE * FINE, : SIDE * FINE] + 0.5) / FINE
    truth = np.full(x.shape, -1000.0)
    truth[((x - 96) / 84) ** 2 + ((y - 96) / 70) ** 2 < 1] = 40
    for column, row, radius, value in ((55, 96, 18, -850), (140, 90, 19, -820), (96, 132, 11, 900)):
        truth[np.hypot(x - column, y - row) < radius] = value
    spread = gaussian_filter(truth, fwhm / 2.3548 * FINE)
    low = spread.reshape(SIDE, FINE, SIDE, FINE).mean(axis=(1, 3))
    white = np.random.default_rng(seed).standard_normal(low.shape)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(SIDE)] * 2))
    shaped = np.fft.ifft2(np.fft.fft2(white) * np.sqrt(frequency) * np.exp(-((frequency * 2.5) ** 2))).real
    return np.clip(np.round(low + noise * shaped / shaped.std()), -1024, 3071).astype(np.float32)


@pytest.mark.parametrize("fwhm", [0.7, 1.2, 1.8, 2.3])
def test_the_width_of_a_point_spread_is_read_from_the_slice(fwhm):
    assert fwhm_pixels(body(fwhm, 8.0)) == pytest.approx(fwhm, abs=0.06)


@pytest.mark.parametrize("noise", [4.0, 12.0, 35.0])
def test_noise_is_read_between_edges_and_organs(noise):
    assert slice_noise_hu(body(1.3, noise)) == pytest.approx(noise, rel=0.1)


def test_strong_noise_hardly_changes_the_width():
    assert fwhm_pixels(body(1.4, 40.0)) == pytest.approx(1.4, abs=0.15)


def test_a_quiet_slice_has_no_noise_and_a_flat_one_no_edge():
    assert slice_noise_hu(np.full((64, 64), 40.0, dtype=np.float32)) == pytest.approx(0, abs=1e-6)
    assert fwhm_pixels(np.full((64, 64), 40.0, dtype=np.float32)) is None


def test_nothing_is_said_of_air_or_of_a_slice_of_a_few_pixels():
    air = np.full((64, 64), -1000.0, dtype=np.float32)
    assert slice_noise_hu(air) is None
    for side in (1, 7):
        assert slice_noise_hu(air[:side, :side]) is None
        assert fwhm_pixels(air[:side, :side]) is None


def test_the_border_of_padding_is_no_edge():
    slice_hu = body(1.5, 8.0)
    y, x = np.mgrid[:SIDE, :SIDE]
    padding = np.hypot(y - 96, x - 96) > 80
    padded = np.where(padding, 3000.0, slice_hu).astype(np.float32)
    assert fwhm_pixels(padded, padding) == pytest.approx(1.5, abs=0.1)
    assert slice_noise_hu(padded, padding) == pytest.approx(8.0, rel=0.12)
