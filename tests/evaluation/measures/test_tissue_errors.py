"""Errors in HU by tissue."""

from __future__ import annotations

import math

import numpy as np
import pytest

from qdm_med.evaluation.columns import column
from qdm_med.evaluation.measures.tissue_errors import tissue_errors


def test_an_error_in_bone_is_told_as_bone_s_however_small_the_bone_is():
    truth = np.full((100, 100), 40.0, dtype=np.float32)
    truth[:2, :5] = 900.0
    image = truth.copy()
    image[:2, :5] -= 300.0
    image[0, 0] += 600.0
    body = np.ones(truth.shape, bool)
    found = tissue_errors(image, truth, body)
    assert found["rmse_hu"] == pytest.approx(300 * math.sqrt(10 / 10_000))
    assert found["bone_rmse_hu"] == pytest.approx(300)
    assert found["bone_mae_hu"] == pytest.approx(300)
    assert found["soft_tissue_rmse_hu"] == 0
    assert found["bias_body_hu"] == pytest.approx((-9 * 300 + 300) / 10_000)
    assert math.isnan(found["lung_rmse_hu"])


def test_all_of_them_stand_in_the_table_of_hu():
    found = tissue_errors(np.zeros((4, 4)), np.zeros((4, 4)), np.ones((4, 4), bool))
    assert {column(name).group for name in found} == {"tissue"}
    assert column("bias_bone_hu").group == "tissue"
    assert column("bias_bone_hu").sense == "zero"
    assert column("bone_rmse_hu").sense == "low"
