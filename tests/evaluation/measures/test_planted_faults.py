"""Every planted fault is found by the measure made for it; the truth and interpolation raise no alarm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.evaluation.columns import LIMITED, alarms, of_interpolation
from qdm_med.evaluation.methods.interpolation import Interpolation
from qdm_med.evaluation.scoring import fidelity_scores
from qdm_med.io.read import read_volume
from qdm_med.resample import lanczos
from tests.evaluation.phantoms import chest, moved, noisier, with_nodule, without_vessel

REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "ct" / "tcia_covid19_ny_sbu.zip"

BIASES = {"bias_lung_hu", "bias_fat_hu", "bias_soft_tissue_hu", "bias_bone_hu"}


def thicker_bone(hu: np.ndarray, scale: int) -> np.ndarray:
    return np.where(gaussian_filter(np.where(hu > 250, 1.0, 0.0), scale) > 0.1, 500.0, hu).astype(np.float32)


FAULTS = {
    "a painted nodule": (lambda hu, scale: with_nodule(hu, 128, 179), {"unsupported_patches"}),
    "an erased vessel": (lambda hu, scale: without_vessel(hu), {"unsupported_patches"}),
    "a shift of 10 HU": (lambda hu, scale: hu + 10, {"bias_fat_hu", "bias_soft_tissue_hu", "consistency_excess_hu"}),
    "10 HU less": (lambda hu, scale: hu - 10, {"bias_fat_hu", "bias_soft_tissue_hu", "consistency_excess_hu"}),
    "half a pixel down": (lambda hu, scale: moved(hu, 0.5, 0.0), {"shift_px"}),
    "half a pixel left": (lambda hu, scale: moved(hu, 0.0, -0.5), {"shift_px"}),
    "added noise": (lambda hu, scale: noisier(hu, 40.0), {"noise_ratio"}),
    "blur": (lambda hu, scale: gaussian_filter(hu, scale), {"mtf50_ratio"}),
    "thicker bone": (thicker_bone, {"bone_dice"}),
}
"""Fault -> how it is planted, larger at larger scales where interpolation does the like, and the columns that must tell."""

# What else a fault does to a slice; beyond this and its own columns, nothing may ring.
ALSO = {
    "a painted nodule": {"bias_lung_hu"},
    "an erased vessel": {"shift_px"},
    "a shift of 10 HU": BIASES,
    "10 HU less": BIASES,
    "half a pixel down": {"bias_bone_hu"},
    "half a pixel left": set(),
    "added noise": {"consistency_excess_hu"},
    "blur": {"lung_dice", "noise_ratio", "consistency_excess_hu", "unsupported_patches", *BIASES},
    "thicker bone": {"unsupported_patches", "mtf50_ratio", "consistency_excess_hu", *BIASES},
}


def ringing(hu, truth):
    return {one.name for one in alarms(fidelity_scores(np.asarray(hu, dtype=np.float32), truth))}


@pytest.fixture(scope="module", params=[4, 8])
def phantom(request, make_truth):
    return make_truth(chest(), request.param)


def test_every_limit_is_a_column_and_is_measured_on_the_phantom_and_on_its_interpolation(phantom):
    scores = fidelity_scores(phantom.hu, phantom)
    assert all(np.isfinite([scores[one.name], scores[of_interpolation(one.name)]]).all() for one in LIMITED)


def test_interpolation_would_break_limits_that_knew_nothing_of_it(phantom):
    scores = fidelity_scores(phantom.interpolated, phantom)
    alone = {one.name for one in LIMITED if one.limit and one.limit.broken_by(scores[one.name])}
    assert alone >= {"mtf50_ratio", "bias_bone_hu"}


def test_the_truth_and_two_ways_to_interpolate_raise_no_alarm(phantom):
    case = phantom.case
    windowed = Interpolation("lanczos", lanczos, case.intensity).restore(case.low_hu, case.scale).hu
    for quiet in (phantom.hu, phantom.interpolated, windowed):
        assert ringing(quiet, phantom) == set()


@pytest.mark.parametrize("into", ["hu", "interpolated"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_planted_into_truth_or_interpolation_is_found_by_its_own_measure(phantom, fault, into):
    plant, columns = FAULTS[fault]
    found = ringing(plant(getattr(phantom, into), phantom.case.scale), phantom)
    assert columns <= found
    assert found <= columns | ALSO[fault]


@pytest.fixture(scope="module")
def real(make_truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    with zipfile.ZipFile(REAL) as archive:
        path = folder / "slice.dcm"
        path.write_bytes(archive.read(sorted(archive.namelist())[0]))
    return make_truth(read_volume(folder).slices[0].hu)


@pytest.mark.shared
def test_a_real_slice_and_its_interpolation_raise_no_alarm(real):
    assert ringing(real.hu, real) == ringing(real.interpolated, real) == set()


@pytest.mark.shared
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"an erased vessel", "thicker bone"}))
def test_faults_planted_into_a_real_slice_are_found(real, fault):
    plant, columns = FAULTS[fault]
    if fault == "a painted nodule":
        row, column = lung_centre(real)
        assert "unsupported_patches" in ringing(with_nodule(real.hu, row, column), real)
        return
    found = ringing(plant(real.hu, real.case.scale), real)
    assert {column for column in columns if np.isfinite(fidelity_scores(real.hu, real)[column])} <= found


@pytest.mark.shared
def test_an_erased_vessel_of_a_real_lung_is_found_where_it_was(real):
    row, column = lung_vessel(real)
    rows, columns = np.indices(real.hu.shape)
    erased = np.where(np.hypot(rows - row, columns - column) < 9, -850.0, real.hu).astype(np.float32)
    boxes = real.hallucinations_in(erased).boxes
    assert any(0 <= row - box.row < box.side and 0 <= column - box.column < box.side for box in boxes)


def lung_centre(truth):
    inside = np.argwhere(truth.body & (gaussian_filter(truth.hu, 3) < -750))
    return inside[len(inside) // 2]


def lung_vessel(truth):
    """Where something dense is surrounded by lung."""
    surroundings = gaussian_filter(truth.hu, 10)
    dense = np.where(truth.body & (surroundings < -550), gaussian_filter(truth.hu, 2), -2000.0)
    return np.unravel_index(dense.argmax(), dense.shape)
