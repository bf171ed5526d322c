import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from qdm_med.evaluation.measures.edge_response import edge_response, find_edges


def disk(blur: float, side: int = 160, radius: float = 50.3) -> np.ndarray:
    """A disk of 1000 HU contrast, drawn finely and averaged, so that only the pixel's own blur is added."""
    fine = 8
    row, column = (np.indices((side * fine, side * fine)) + 0.5) / fine - side / 2
    sharp = np.where(np.hypot(row, column) < radius, 0.0, -1000.0)
    blurred = gaussian_filter(sharp, blur * fine)
    return blurred.reshape(side, fine, side, fine).mean(axis=(1, 3)).astype(np.float32)


def expected(frequency: np.ndarray, blur: float) -> np.ndarray:
    """Gaussian times the pixel's aperture; the aperture's mean over directions is close to that along an axis."""
    return np.exp(-2 * (np.pi * blur * frequency) ** 2) * np.sinc(frequency)


@pytest.mark.parametrize("blur", [0.7, 1.0, 1.5])
def test_the_transfer_function_of_a_gaussian_edge_is_known(blur):
    image = disk(blur)
    edges = find_edges(image)
    response = edge_response(image, edges)
    assert response is not None
    assert len(edges) > 100
    low = response.frequency < 0.3
    np.testing.assert_allclose(response.mtf[low], expected(response.frequency[low], blur), atol=0.04)
    grid = np.linspace(0, 0.5, 5001)
    half = grid[np.flatnonzero(expected(grid, blur) < 0.5)[0]]
    assert response.mtf50 == pytest.approx(half, rel=0.06)


def test_further_blur_is_read_off_the_same_edges():
    sharp = disk(0.8)
    edges = find_edges(sharp)
    blunt = edge_response(gaussian_filter(sharp, 1.2), edges)
    own = edge_response(sharp, edges)
    assert blunt is not None
    assert own is not None
    low = own.frequency < 0.25
    wanted = np.exp(-2 * (np.pi * 1.2 * own.frequency[low]) ** 2)
    np.testing.assert_allclose(blunt.mtf[low] / own.mtf[low], wanted, atol=0.04)


def test_edges_lie_on_the_disk_and_point_to_the_higher_side():
    edges = find_edges(disk(1.0))
    row, column = edges.rows - 79.5, edges.columns - 79.5
    np.testing.assert_allclose(np.hypot(row, column), 50.3, atol=0.3)
    inwards = -(row * edges.normals[:, 0] + column * edges.normals[:, 1])
    assert (inwards > 0.97 * 50.3).all()


def test_a_displaced_image_is_not_taken_for_a_blunt_one():
    image = disk(1.0)
    edges = find_edges(image)
    displaced = edge_response(shift(image, (0.0, 0.05), order=3), edges)
    own = edge_response(image, edges)
    assert displaced is not None
    assert own is not None
    assert displaced.mtf50 == pytest.approx(own.mtf50, rel=0.03)


def test_without_edges_there_is_no_answer():
    flat = np.random.default_rng(0).normal(40, 10, (96, 96)).astype(np.float32)
    assert edge_response(flat, find_edges(flat)) is None
