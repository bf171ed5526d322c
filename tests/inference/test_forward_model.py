"""Agreement through a point spread, against scans simulated with a known one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.inference.consistency import back_projected
from qdm_med.inference.forward_model import RETURNED, best_fwhm, resampled, return_to_source

SCALE = 4


def anatomy(side=160, seed=0):
    """Soft tissue with sharp discs of bone, fat and contrast medium."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:side, :side]
    hu = np.full((side, side), 40.0)
    for _ in range(25):
        centre, radius = rng.uniform(0, side, 2), rng.uniform(3, 25)
        hu[np.hypot(row - centre[0], column - centre[1]) < radius] = rng.choice([-100.0, 300.0, 900.0, 60.0])
    return hu.astype(np.float32)


def scan(fine, fwhm):
    """Independent of the code: the blur on the fine grid, then the mean of each block."""
    blurred = gaussian_filter(fine.astype(np.float64), fwhm * SCALE / 2.3548) if fwhm else fine
    rows, columns = fine.shape
    return blurred.reshape(rows // SCALE, SCALE, columns // SCALE, SCALE).mean(axis=(1, 3)).astype(np.float32)


@pytest.mark.parametrize("fwhm", [0.0, 0.8, 1.2, 2.0])
def test_the_forward_model_is_a_blur_and_a_mean(fwhm):
    fine = anatomy()
    difference = resampled(fine, SCALE, fwhm) - scan(fine, fwhm)
    assert np.sqrt(np.mean(difference**2)) < 4.0  # of edges of up to 1000 HU


@pytest.mark.parametrize("fwhm", [0.0, 0.7, 1.2, 1.9])
@pytest.mark.parametrize("noise", [0.0, 15.0])
def test_the_point_spread_that_explains_the_source_best_is_the_true_one(fwhm, noise):
    fine = anatomy(seed=1)
    source = scan(fine, fwhm) + noise * np.random.default_rng(2).standard_normal((40, 40)).astype(np.float32)
    assert best_fwhm(fine, source, SCALE) == pytest.approx(fwhm, abs=0.25)


def test_a_slice_that_explains_its_source_is_left_as_it_is():
    fine = anatomy(seed=2)
    returned = return_to_source(fine, scan(fine, 1.2), SCALE)
    assert np.sqrt(np.mean((returned - fine) ** 2)) < 5.0
    # where asking for equal block means would blur it:
    boxed = return_to_source(fine, scan(fine, 1.2), SCALE, fwhm=0.0)
    assert np.sqrt(np.mean((boxed - fine) ** 2)) > 20.0


def test_a_lesion_that_the_network_dropped_comes_back_by_the_stated_share():
    fine = anatomy(seed=3)
    row, column = np.mgrid[:160, :160]
    lesion = np.hypot(row - 80, column - 80) < 20
    fine[np.hypot(row - 80, column - 80) < 40] = 40.0
    returned = return_to_source(fine, scan(fine + 30.0 * lesion, 1.2), SCALE, fwhm=1.2)
    core = np.hypot(row - 80, column - 80) < 10
    assert (returned - fine)[core].mean() == pytest.approx(30 * RETURNED, rel=0.05)


def test_a_dark_pixel_of_noise_does_not_become_a_hole():
    """Where the source shows noise alone, nothing leaves the range of the source's neighbourhood; at an edge it may."""
    rng = np.random.default_rng(4)
    source = (40 + 10 * rng.standard_normal((24, 24))).astype(np.float32)
    source[:, 16:] += 900
    fine = np.kron(source, np.ones((4, 4), dtype=np.float32))
    fine[30:34, 30:34] -= 400  # a hole that the network made of noise
    fine[30:34, 60:62] -= 300  # an edge that it made sharper
    agreed = back_projected(fine, source, 4, "spread", fwhm=1.0)
    assert agreed[28:36, 28:36].min() >= source[5:11, 5:11].min() - 1
    assert agreed[30:34, 60:62].min() < source[7:9, 12:16].min() - 50
