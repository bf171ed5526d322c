"""Faults that are planted into the truth, and the answers that a method with such a fault would give."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, shift

from qdm_med.evaluation.clinical.details import BONE_PLACE, BONE_RADIUS
from qdm_med.evaluation.clinical.ladder import BACKGROUND_HU, SIDE
from qdm_med.evaluation.clinical.scan import FineGrid, kernel_noise


def nothing(case):
    return case.truth_hu


def noise_amplified(case, low=-np.inf, high=np.inf):
    """Twice the noise of the ladder, in a range of HU."""
    noise = 20 * kernel_noise(case.truth_hu.shape, 1.2 * case.scale, np.random.default_rng(1))
    return case.truth_hu + np.where((case.truth_hu > low) & (case.truth_hu < high), noise, 0.0)


def noise_amplified_in_contrast_medium(case):
    return noise_amplified(case, 150, 500)


def hu_shifted(case, by=3.0):
    return case.truth_hu + by


def wisps(case):
    """A hair of +40 HU through every second column of the ladder's soft tissue, over faint noise."""
    columns = FineGrid(SIDE, case.scale).columns
    hair = np.abs(columns % 16 - 13.5) < 0.13
    soft = np.abs(case.truth_hu - BACKGROUND_HU) < 120
    faint = kernel_noise(case.truth_hu.shape, 4.0, np.random.default_rng(2))
    return case.truth_hu + faint + np.where(hair & soft, 40.0, 0.0)


def contrast_flattened(case):
    """What differs from the tissue by less than 30 HU becomes tissue."""
    tissue = np.median(case.truth_hu[: 40 * case.scale])
    return np.where(np.abs(case.truth_hu - tissue) < 30, tissue, case.truth_hu)


def lumps(case):
    """Noise as coarse as the discs: contrast stays, detectability does not."""
    noise = gaussian_filter(np.random.default_rng(3).standard_normal(case.truth_hu.shape), 2.0 * case.scale)
    return case.truth_hu + 12 * noise / noise.std()


def vessels_erased(case):
    """Every small thing goes: what a median over seven source pixels would do."""
    answer = case.truth_hu.copy()
    tissue = np.median(answer[: 40 * case.scale])
    above = slice(45 * case.scale, 60 * case.scale)
    answer[above] = tissue
    lung = FineGrid(SIDE, case.scale).disc(95.0, 91.0, 24.0)
    answer[lung] = -850.0
    return answer


def bone_texture_destroyed(case):
    """Other trabeculae than the true ones, as a network dreams them."""
    bone = FineGrid(SIDE, case.scale).disc(*BONE_PLACE, BONE_RADIUS - 2)
    dreamt = gaussian_filter(np.random.default_rng(4).standard_normal(case.truth_hu.shape), 0.6 * case.scale)
    return np.where(bone, 500 + 150 * dreamt / dreamt.std(), case.truth_hu)


def soft_tissue_wrong(case):
    soft = (case.truth_hu > -160) & (case.truth_hu < 240)
    return case.truth_hu + np.where(soft, 25.0, 0.0)


def blurred(case):
    return gaussian_filter(case.truth_hu, 1.2 * case.scale)


def sharpened(case):
    """Unsharp masking: false rims."""
    return case.truth_hu + 0.8 * (case.truth_hu - gaussian_filter(case.truth_hu, case.scale))


def moved(case):
    """0.6 source pixels across the bars: they are out of phase."""
    across = 0.6 * case.scale * np.array([np.sin(case.angle), np.cos(case.angle)])
    return shift(case.truth_hu, across, order=1, mode="nearest")


def anatomy_wrong(case):
    """A patient's slice blurred over three source pixels."""
    return gaussian_filter(case.truth_hu, 3.0 * case.scale)


def tissue_off(case, low, high, by):
    return case.truth_hu + np.where((case.truth_hu > low) & (case.truth_hu < high), by, 0.0)
