"""A calibration by tissue covers every group, where one number for all does not."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med import uncertainty
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.calibration import fit_spread
from qdm_med.evaluation.measures.tissue_calibration import PLACES_HU, Pixels, coverage, fit_by_tissue
from qdm_med.uncertainty import REACH, SpreadCalibration, TissueSpread, local_contrast, nearest_calibration


def pixels(count, hu, std, factor, seed):
    """Errors that are normal with ``factor`` times the samples' standard deviation."""
    rng = np.random.default_rng(seed)
    own = std * rng.uniform(0.5, 1.5, count)
    error = np.abs(factor * own * rng.standard_normal(count))
    return Pixels(error, own, hu + 30 * rng.standard_normal(count), np.zeros(count))


GROUPS = {
    "body": pixels(8000, 40.0, 5.0, 1.5, 0),
    "lung": pixels(2000, -850.0, 20.0, 2.5, 1),
    "bone": pixels(800, 900.0, 60.0, 4.0, 2),
}


def test_every_group_is_covered_though_each_needs_another_factor():
    tissues = fit_by_tissue(GROUPS)
    for name, group in GROUPS.items():
        assert 0.95 <= coverage(group, tissues) <= 0.975, name
    factor, floor = fit_spread(
        *(np.concatenate(parts) for parts in zip(*(g[:2] for g in GROUPS.values()), strict=True))
    )
    bone = GROUPS["bone"]
    assert (bone.error <= REACH * np.hypot(factor * bone.std, floor)).mean() < 0.9


def test_bone_that_the_network_takes_for_muscle_is_covered_too():
    hidden = pixels(300, 60.0, 5.0, 20.0, 3)
    groups = GROUPS | {"hidden bone": hidden}
    assert coverage(hidden, fit_by_tissue(groups)) >= 0.94
    assert coverage(hidden, fit_by_tissue(GROUPS)) < 0.5


def test_an_edge_is_less_certain_than_flat_tissue_though_the_samples_agree_at_both():
    rng = np.random.default_rng(7)
    contrast = np.where(rng.random(6000) < 0.3, rng.uniform(50, 150, 6000), 0.0)
    std = np.full(6000, 2.0)
    error = np.abs(np.hypot(4.0, 0.5 * contrast) * rng.standard_normal(6000))
    tissues = fit_by_tissue({"body": Pixels(error, std, np.full(6000, 40.0), contrast)})
    soft = next(one for one in tissues if one.tissue == "soft tissue")
    assert soft.edge == pytest.approx(0.5, rel=0.15)
    assert np.hypot(soft.factor * 2.0, soft.floor_hu) == pytest.approx(4.0, rel=0.2)


def test_bands_of_rows_give_what_the_whole_slice_gives(monkeypatch):
    hu = np.random.default_rng(8).normal(0, 300, (70, 30)).astype(np.float32)
    std = np.random.default_rng(9).uniform(0, 20, hu.shape).astype(np.float32)
    places = tuple(TissueSpread(name, at, 1.0 + n, 5.0, 0.1 * n) for n, (name, at) in enumerate(PLACES_HU.items()))
    calibration = SpreadCalibration(4, 2, 8, 1.0, 0.0, 0.95, places)
    whole = calibration.by_tissue(std, hu, local_contrast(hu, 4))
    monkeypatch.setattr(uncertainty, "BAND_ROWS", 16)
    np.testing.assert_allclose(calibration.apply(std, hu), whole, rtol=1e-4)


def test_a_place_without_pixels_takes_the_nearest_fit():
    tissues = {one.tissue: one for one in fit_by_tissue({"body": GROUPS["body"]})}
    assert list(tissues) == list(PLACES_HU)
    assert tissues["lung"].factor == pytest.approx(tissues["fat"].factor, rel=0.1)


def test_between_two_tissues_the_standard_deviation_is_between_theirs():
    tissues = TissueSpread("soft tissue", 0.0, 1.0, 10.0), TissueSpread("bone", 100.0, 3.0, 30.0)
    calibration = SpreadCalibration(4, 2, 8, 1.0, 0.0, 0.95, tissues)
    std, hu = np.zeros((1, 5), np.float32), np.array([[-500, 0, 50, 100, 900]], np.float32)
    assert calibration.apply(std, hu).tolist() == [[10.0, 10.0, 20.0, 30.0, 30.0]]
    assert "bone sqrt((3.00 std)^2 + (30.0 HU)^2)" in calibration.description()
    with pytest.raises(ConfigError, match="ascend"):
        SpreadCalibration(4, 2, 8, 1.0, 0.0, 0.95, tissues[::-1])


def test_fewer_samples_than_it_was_measured_with_are_less_sure():
    measured = SpreadCalibration(4, 2, 8, 2.0, 10.0, 0.95, (TissueSpread("bone", 100.0, 3.0, 30.0),))
    fewer = nearest_calibration([measured], 4, 2, 3)
    assert fewer.factor > 2.0
    assert fewer.tissues[0].factor / 3.0 == pytest.approx(fewer.factor / 2.0)
    assert fewer.tissues[0].floor_hu == 30.0
    assert nearest_calibration([measured], 4, 2, 8) is measured
    assert nearest_calibration([measured], 8, 2, 8) is None
