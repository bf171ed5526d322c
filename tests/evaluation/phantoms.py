"""A chest-like phantom whose every structure is known, and faults planted into slices."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, shift

SIDE = 256


def chest(side: int = SIDE, seed: int = 0) -> np.ndarray:
    """Body, fat, lungs with vessels, a spine and noise of 10 HU; edges as blunt as a scanner's."""
    row, column = np.mgrid[:side, :side] / side - 0.5
    hu = np.full((side, side), -1000.0)
    hu[ellipse(row, column, 0.0, 0.0, 0.36, 0.45)] = -100.0  # fat
    hu[ellipse(row, column, 0.0, 0.0, 0.32, 0.41)] = 50.0  # muscle
    for centre in (-0.25, 0.25):
        hu[ellipse(row, column, -0.02, centre, 0.22, 0.12)] = -850.0  # lung
    hu[vessel(row, column)] = 40.0
    hu[ellipse(row, column, 0.22, 0.0, 0.06, 0.06)] = 500.0  # spine
    noise = np.random.default_rng(seed).normal(0.0, 25.0, hu.shape)
    return (gaussian_filter(hu, 0.8) + gaussian_filter(noise, 0.7)).astype(np.float32)


def ellipse(row, column, at_row, at_column, height, width):
    return ((row - at_row) / height) ** 2 + ((column - at_column) / width) ** 2 < 1


def vessel(row, column):
    return (np.abs(column + 0.25 + 0.4 * (row + 0.02)) < 0.009) & (np.abs(row + 0.02) < 0.12)


def with_nodule(hu: np.ndarray, row: int, column: int, radius: float = 6.0, contrast: float = 600.0) -> np.ndarray:
    rows, columns = np.indices(hu.shape)
    inside = np.hypot(rows - row, columns - column) < radius
    return hu + gaussian_filter(np.where(inside, contrast, 0.0), 0.8).astype(np.float32)


def without_vessel(hu: np.ndarray) -> np.ndarray:
    row, column = np.mgrid[: hu.shape[0], : hu.shape[1]] / hu.shape[0] - 0.5
    mask = gaussian_filter(vessel(row, column).astype(float), 1.0) > 0.05
    noise = np.random.default_rng(7).normal(0.0, 12.0, hu.shape)
    return np.where(mask, -850.0 + noise, hu).astype(np.float32)


def moved(hu: np.ndarray, rows: float = 0.5, columns: float = 0.0) -> np.ndarray:
    return shift(hu, (rows, columns), order=3, mode="nearest").astype(np.float32)


def noisier(hu: np.ndarray, sigma: float = 20.0) -> np.ndarray:
    return hu + np.random.default_rng(9).normal(0.0, sigma, hu.shape).astype(np.float32)
