import numpy as np
import pytest

from qdm_med.data.store.references import (
    NEAR_DUPLICATE_HU,
    nearest_pair,
    reference_hu,
    thumbnail,
    to_reference,
    unsuitable,
)
from qdm_med.volume import CtSlice


def ct_slice(hu: np.ndarray, padding: np.ndarray | None = None) -> CtSlice:
    nothing = np.zeros(hu.shape, dtype=bool)
    return CtSlice(hu.astype(np.float32), nothing if padding is None else padding, 0.0)


def test_a_512_slice_is_kept_pixel_by_pixel_within_the_ct_range():
    hu = np.random.default_rng(0).integers(-3000, 5000, (512, 512)).astype(np.float32)
    reference = to_reference(ct_slice(hu))
    assert reference.dtype == np.int16
    np.testing.assert_array_equal(reference, np.clip(hu, -1024, 3071))


def test_padding_is_air():
    padding = np.zeros((512, 512), dtype=bool)
    padding[:100] = True
    reference = to_reference(ct_slice(np.full((512, 512), 63536.0), padding))
    assert (reference[:100] == -1024).all()
    assert (reference[100:] == 3071).all()


def test_twice_the_matrix_is_averaged_over_two_by_two_pixels():
    hu = np.random.default_rng(0).integers(-1000, 1000, (1024, 1024)).astype(np.float32)
    expected = hu.reshape(512, 2, 512, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(to_reference(ct_slice(hu)), expected, atol=0.51)


def integral_mean(image: np.ndarray, side: int) -> np.ndarray:
    """Mean over each new pixel from the running integral of the image, read off between its knots."""
    for _ in range(2):  # one axis, then the other
        length = len(image)
        integral = np.concatenate([np.zeros((1, image.shape[1])), np.cumsum(image, axis=0, dtype=np.float64)])
        at = np.linspace(0.0, length, side + 1)
        read = np.stack([np.interp(at, np.arange(length + 1), column) for column in integral.T], axis=1)
        image = (np.diff(read, axis=0) * side / length).T
    return image


@pytest.mark.parametrize("side", [513, 600, 640, 768, 1024])
def test_a_reference_is_the_integral_over_the_area_of_its_pixels(side):
    hu = np.random.default_rng(side).uniform(-1000, 3000, (side, side)).astype(np.float32)
    reference = reference_hu(ct_slice(hu))
    np.testing.assert_allclose(reference, integral_mean(hu, 512), rtol=0, atol=1e-3)
    assert np.abs(to_reference(ct_slice(hu)) - reference).max() <= 0.5


@pytest.mark.parametrize("side", [513, 600, 640, 768, 1024])
def test_a_reference_keeps_structures_in_place(side):
    row, column = np.mgrid[:side, :side] + 0.5
    at = np.array([0.37, 0.61])  # of the field of view
    blob = 2000 * np.exp(-((row / side - at[0]) ** 2 + (column / side - at[1]) ** 2) / (2 * 0.02**2))
    reference = reference_hu(ct_slice(blob)).astype(np.float64)
    rows, columns = np.mgrid[:512, :512] + 0.5
    centre = np.array([(rows * reference).sum(), (columns * reference).sum()]) / reference.sum()
    np.testing.assert_allclose(centre, at * 512, rtol=0, atol=1e-3)


def test_a_pixel_on_a_border_counts_by_its_share_on_either_side():
    hu = np.zeros((768, 768))
    hu[:, 1] = 300.0  # half of it lies in column 0 of the reference, half in column 1
    np.testing.assert_allclose(reference_hu(ct_slice(hu))[0, :3], [100.0, 100.0, 0.0], atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "spacing", "reason"),
    [
        ((512, 400), (0.7, 0.7), "matrix 512 x 400 is not square"),
        ((511, 511), (0.7, 0.7), "matrix 511 x 511 is smaller than 512; a reference is never enlarged"),
        ((512, 512), (0.7, 0.8), "pixels of 0.7 x 0.8 mm are not square"),
        ((512, 512), (0.7, 0.7), None),
        ((513, 513), (0.7, 0.7), None),
    ],
)
def test_grids_that_make_no_reference_are_told_apart(shape, spacing, reason):
    assert unsuitable(shape, spacing) == reason


def anatomy(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(-1000, 300, (8, 8))
    return np.kron(coarse, np.ones((64, 64))).astype(np.int16)


def test_noise_does_not_hide_a_duplicate_and_other_anatomy_is_none():
    noisy = (anatomy(1) + np.random.default_rng(9).normal(0, 50, (512, 512))).astype(np.int16)
    first = np.stack([thumbnail(anatomy(seed)) for seed in (0, 1)])
    second = np.stack([thumbnail(image) for image in (anatomy(2), anatomy(3), noisy)])
    row, column, difference = nearest_pair(first, second, block=1)
    assert (row, column) == (1, 2)
    assert difference < NEAR_DUPLICATE_HU
    assert nearest_pair(first, second[:2])[2] > 3 * NEAR_DUPLICATE_HU


def test_the_nearest_pair_is_that_of_all_pairs():
    rng = np.random.default_rng(4)
    first, second = rng.normal(0, 100, (13, 256)).astype(np.float32), rng.normal(0, 100, (9, 256)).astype(np.float32)
    every = np.sqrt(((first[:, None] - second[None]) ** 2).mean(axis=-1))
    row, column, difference = nearest_pair(first, second, block=5)
    assert (row, column) == np.unravel_index(every.argmin(), every.shape)
    assert difference == pytest.approx(every.min(), rel=1e-5)
