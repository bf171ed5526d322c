import math

import numpy as np
import pytest

from qdm_med.evaluation.measures.agreement import limits_of_agreement, tissue_means
from qdm_med.evaluation.measures.tissues import TISSUES, Tissue

SOFT = Tissue("soft_tissue", -160.0, 240.0)


def test_limits_of_agreement_hold_95_percent_of_normal_differences():
    values = np.random.default_rng(0).normal(3.0, 5.0, 20_000)
    agreement = limits_of_agreement(values)
    assert agreement.bias == pytest.approx(3.0, abs=0.15)
    assert (agreement.low, agreement.high) == (pytest.approx(3 - 9.8, abs=0.2), pytest.approx(3 + 9.8, abs=0.2))
    inside = (values > agreement.low) & (values < agreement.high)
    assert inside.mean() == pytest.approx(0.95, abs=0.01)


def test_limits_by_hand():
    agreement = limits_of_agreement([1.0, 2.0, 3.0])
    assert (agreement.bias, agreement.low, agreement.high, agreement.count) == (2.0, 2 - 1.96, 2 + 1.96, 3)
    assert math.isnan(limits_of_agreement([1.0]).low)


def test_means_leave_out_the_border_of_a_tissue_where_volumes_are_partial():
    truth = np.full((40, 40), -800.0, dtype=np.float32)
    truth[10:30, 10:30] = 50.0
    image = truth.copy()
    image[10:30, 10:30] = 60.0
    image[10:12, :] = image[28:30, :] = 500.0  # beyond the interior
    assert tissue_means(image, truth, SOFT) == (60.0, 50.0)


def test_too_little_of_a_tissue_says_nothing():
    truth = np.full((40, 40), -800.0, dtype=np.float32)
    truth[10:20, 10:20] = 50.0
    assert tissue_means(truth, truth, SOFT) is None


def test_classes_are_chosen_on_the_true_slice():
    truth = np.array([[-950.0, -500.0, -150.0, -30.0, 240.0, 250.0, 3071.0, -499.0]], dtype=np.float32)
    found = {tissue.name: tissue.mask(truth)[0].nonzero()[0].tolist() for tissue in TISSUES}
    assert found == {"lung": [0, 1], "fat": [2, 3], "soft_tissue": [2, 3, 4], "contrast_medium": [4, 5], "bone": [5, 6]}
