"""Point spread of a CT slice in its own pixels, from the sharpest edges that the slice shows.

A point spread is here a Gaussian of some full width at half maximum, followed by the average over the pixel: what a
kernel, a detector and an interpolation leave of a step together is near to it. Anatomy has blunt edges as well, so the width
is that of the sharpest quarter.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, gaussian_filter, maximum_filter
from scipy.special import erf

from qdm_med.volume import BoolArray, FloatArray

Floats = NDArray[np.float64]

FWHM_OF_SIGMA = 2.3548
"""Full width at half maximum of a Gaussian of standard deviation 1: ``2 sqrt(2 ln 2)``."""

PIXEL_VARIANCE = 1 / 12
"""Variance of the average over one pixel, in pixels squared."""

SMALLEST_STEP_HU = 200.0
"""Lower edges drown in noise."""

REACH = 4
"""Pixels on every side of an edge that are fitted."""

MOST_EDGES = 600
FEWEST_EDGES = 20
SHARP_SHARE = 0.25
"""Quantile of the edges' widths that is the point spread's."""

LARGEST_MISFIT = 0.06
"""Root mean square of what an edge's fit leaves, as a share of its step: more is no straight edge between flat sides."""

ROUNDS = 12
"""Steps of the fit."""

WIDTHS = (0.15, 3.0)
"""Standard deviations in pixels between which an edge is believed."""


class _Edges(NamedTuple):
    """Neighbourhoods of edge points: ``(N, P)`` HU, and ``(N, P)`` pixels along the gradient."""

    hu: Floats
    along: Floats


def fwhm_pixels(hu: FloatArray, padding: BoolArray | None = None) -> float | None:
    """Full width at half maximum of a slice's point spread in its pixels; ``None`` where it shows too few edges.

    Args:
        hu: ``(rows, columns)`` HU.
        padding: ``(rows, columns)`` bool, where the scanner recorded nothing.
    """
    edges = _edges(hu.astype(np.float64), padding)
    if edges is None:
        return None
    sigma = _widths(edges)
    if len(sigma) < FEWEST_EDGES:
        return None
    variance = float(np.quantile(sigma, SHARP_SHARE)) ** 2
    return FWHM_OF_SIGMA * float(np.sqrt(max(0.0, variance - PIXEL_VARIANCE)))


def _edges(image: Floats, padding: BoolArray | None) -> _Edges | None:
    """Read the neighbourhoods of places where the gradient is largest along its own direction."""
    if min(image.shape) <= 2 * REACH + 2:
        return None
    slopes = np.stack([gaussian_filter(image, 1.0, order=order) for order in ((1, 0), (0, 1))])
    steepness = np.hypot(*slopes)
    # A step of S HU under a width of 2 pixels and the filter's 1 still has S / 6 HU a pixel.
    found = (steepness >= SMALLEST_STEP_HU / 6) & (steepness == maximum_filter(steepness, 3))
    if padding is not None and padding.any():
        found &= ~binary_dilation(padding, iterations=REACH + 1)
    found[: REACH + 1] = found[-REACH - 1 :] = found[:, : REACH + 1] = found[:, -REACH - 1 :] = False
    rows, columns = np.nonzero(found)
    if len(rows) < FEWEST_EDGES:
        return None
    chosen = np.linspace(0, len(rows) - 1, min(len(rows), MOST_EDGES)).round().astype(int)
    rows, columns = rows[chosen], columns[chosen]
    down, right = (offset.ravel() for offset in np.mgrid[-REACH : REACH + 1, -REACH : REACH + 1])
    normal = slopes[:, rows, columns] / steepness[rows, columns]
    along = normal[0][:, None] * down + normal[1][:, None] * right
    return _Edges(image[rows[:, None] + down, columns[:, None] + right], along)


def _widths(edges: _Edges) -> Floats:
    """Fit the edges, all at once by Levenberg's method; standard deviations in pixels of those that fit well."""
    weight = (np.abs(edges.along) <= REACH).astype(np.float64)
    low, high = (np.quantile(edges.hu, share, axis=1) for share in (0.1, 0.9))
    parameters = np.stack([(low + high) / 2, (high - low) / 2, np.zeros_like(low), np.ones_like(low)], axis=1)
    for _ in range(ROUNDS):
        parameters = parameters + _step(edges, parameters, weight)
        parameters[:, 3] = parameters[:, 3].clip(*WIDTHS)
        parameters[:, 2] = parameters[:, 2].clip(-2, 2)
    left = _profile(edges.along, parameters) - edges.hu
    misfit = np.sqrt((weight * left**2).sum(axis=1) / weight.sum(axis=1))
    step = 2 * parameters[:, 1]
    sigma = parameters[:, 3]
    inside = (sigma > WIDTHS[0]) & (sigma < WIDTHS[1]) & (np.abs(parameters[:, 2]) < 1.0)
    return sigma[inside & (step >= SMALLEST_STEP_HU) & (misfit <= LARGEST_MISFIT * step)]


def _profile(along: Floats, parameters: Floats) -> Floats:
    """Value of ``middle + half erf((d - offset) / (sqrt(2) sigma))`` for each edge at its pixels."""
    middle, half, offset, sigma = (column[:, None] for column in parameters.T)
    return middle + half * erf((along - offset) / (np.sqrt(2) * sigma))


def _step(edges: _Edges, parameters: Floats, weight: Floats) -> Floats:
    """``(N, 4)`` change of the parameters that the linearised fit gives."""
    _, half, offset, sigma = (column[:, None] for column in parameters.T)
    z = (edges.along - offset) / sigma
    bell = half * np.sqrt(2 / np.pi) * np.exp(-(z**2) / 2) / sigma
    jacobian = np.stack([np.ones_like(z), erf(z / np.sqrt(2)), -bell, -bell * z], axis=-1)  # (N, P, 4)
    left = edges.hu - _profile(edges.along, parameters)
    normal = np.einsum("npi,np,npj->nij", jacobian, weight, jacobian)
    normal += 1e-2 * np.eye(4) * np.einsum("nii->ni", normal)[:, None, :] + 1e-9 * np.eye(4)
    return np.linalg.solve(normal, np.einsum("npi,np,np->ni", jacobian, weight, left)[..., None])[..., 0]
