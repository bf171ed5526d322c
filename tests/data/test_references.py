import numpy as np
import pytest

from qdm_med.data.references import NEAR_DUPLICATE_HU, nearest_pair, thumbnail, to_reference, unsuitable
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


@pytest.mark.parametrize("side", [256, 400, 768])
def test_resampling_keeps_a_ramp_over_the_field_of_view_in_place(side):
    ramp = ((np.arange(side) + 0.5) / side * 1000).astype(np.float32)
    expected = (np.arange(512) + 0.5) / 512 * 1000
    reference = to_reference(ct_slice(np.tile(ramp, (side, 1))))
    np.testing.assert_allclose(reference[256, 8:-8], expected[8:-8], atol=1.5)
    np.testing.assert_array_equal(to_reference(ct_slice(np.tile(ramp[:, None], (1, side)))), reference.T)


@pytest.mark.parametrize(
    ("shape", "spacing", "reason"),
    [
        ((512, 400), (0.7, 0.7), "matrix 512 x 400 is not square"),
        ((128, 128), (0.7, 0.7), "matrix 128 x 128 is smaller than 256"),
        ((512, 512), (0.7, 0.8), "pixels of 0.7 x 0.8 mm are not square"),
        ((512, 512), (0.7, 0.7), None),
        ((256, 256), (1.4, 1.4), None),
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
