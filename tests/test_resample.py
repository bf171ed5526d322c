import numpy as np
import pytest

from qdm_med.resample import area_mean


def test_a_mean_over_the_area_keeps_the_mean_of_the_image_at_any_ratio():
    image = np.random.default_rng(0).uniform(-1000, 1000, (37, 53))
    for shape in ((37, 53), (36, 20), (1, 1), (5, 52)):
        assert area_mean(image, shape).astype(np.float64).mean() == pytest.approx(image.mean(), abs=1e-4)


def test_rows_and_columns_may_shrink_by_different_ratios():
    image = np.kron(np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((6, 10)))
    np.testing.assert_allclose(area_mean(image, (4, 2)), [[1, 2], [1, 2], [3, 4], [3, 4]], atol=1e-6)


def test_a_mean_cannot_enlarge():
    with pytest.raises(ValueError, match=r"\(8, 8\) into \(8, 9\)"):
        area_mean(np.zeros((8, 8)), (8, 9))
