"""Every planted fault is found by the measure made for it; the unchanged slice raises no alarm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.evaluation.columns import COLUMNS
from qdm_med.evaluation.scoring import fidelity_scores
from qdm_med.io.read import read_volume
from tests.evaluation.phantoms import chest, moved, noisier, with_nodule, without_vessel

LIMITS = {one.name: one.limit for one in COLUMNS.values() if one.limit}
REAL = Path(__file__).resolve().parents[4] / "shared" / "data" / "ct" / "tcia_covid19_ny_sbu.zip"

BIASES = {"bias_lung_hu", "bias_fat_hu", "bias_soft_tissue_hu", "bias_bone_hu"}


def thicker_bone(hu: np.ndarray) -> np.ndarray:
    return np.where(gaussian_filter(np.where(hu > 250, 1.0, 0.0), 2.0) > 0.1, 500.0, hu).astype(np.float32)


FAULTS = {
    "a painted nodule": (lambda hu: with_nodule(hu, 128, 179), {"unsupported_patches"}),
    "an erased vessel": (without_vessel, {"unsupported_patches"}),
    "a shift of 10 HU": (lambda hu: hu + 10, BIASES | {"consistency_excess_hu"}),
    "10 HU less": (lambda hu: hu - 10, BIASES | {"consistency_excess_hu"}),
    "half a pixel down": (lambda hu: moved(hu, 0.5, 0.0), {"shift_px"}),
    "half a pixel left": (lambda hu: moved(hu, 0.0, -0.5), {"shift_px"}),
    "added noise": (noisier, {"noise_ratio"}),
    "blur": (lambda hu: gaussian_filter(hu, 1.0), {"mtf50_ratio", "noise_ratio"}),
    "thicker bone": (thicker_bone, {"bone_dice"}),
}
"""Fault -> how it is planted, and the columns that must tell."""

# What else a fault does to a slice; beyond this and its own columns, nothing may ring.
ALSO = {
    "a painted nodule": {"bias_lung_hu"},
    "a shift of 10 HU": {"lung_dice", "bone_dice"},
    "10 HU less": {"lung_dice", "bone_dice"},
    "half a pixel down": {"lung_dice", "bone_dice", "mtf50_ratio"},
    "half a pixel left": {"lung_dice", "bone_dice", "mtf50_ratio"},
    "added noise": {"bone_dice"},
    "blur": {"lung_dice", "bone_dice", *BIASES},
    "thicker bone": {"unsupported_patches", "mtf50_ratio", *BIASES},
}


def ringing(hu, truth):
    scores = fidelity_scores(hu, truth)
    return {name for name, limit in LIMITS.items() if limit.broken_by(scores[name])}


@pytest.fixture(scope="module", params=[4, 8])
def phantom(request, make_truth):
    return make_truth(chest(), request.param)


def test_every_limit_is_a_column_and_is_measured_on_the_phantom(phantom):
    scores = fidelity_scores(phantom.hu, phantom)
    assert all(np.isfinite(scores[name]) for name in LIMITS)


def test_the_unchanged_slice_raises_no_alarm(phantom):
    assert ringing(phantom.hu, phantom) == set()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_own_measure(phantom, fault):
    plant, columns = FAULTS[fault]
    found = ringing(plant(phantom.hu), phantom)
    assert columns <= found
    assert found <= columns | ALSO.get(fault, set())


@pytest.fixture(scope="module")
def real(make_truth, tmp_path_factory):
    folder = tmp_path_factory.mktemp("real")
    with zipfile.ZipFile(REAL) as archive:
        path = folder / "slice.dcm"
        path.write_bytes(archive.read(sorted(archive.namelist())[0]))
    return make_truth(read_volume(folder).slices[0].hu)


@pytest.mark.shared
def test_a_real_slice_raises_no_alarm(real):
    assert ringing(real.hu, real) == set()


@pytest.mark.shared
@pytest.mark.parametrize("fault", sorted(set(FAULTS) - {"an erased vessel", "thicker bone"}))
def test_faults_planted_into_a_real_slice_are_found(real, fault):
    plant, columns = FAULTS[fault]
    if fault == "a painted nodule":
        row, column = lung_centre(real)
        assert "unsupported_patches" in ringing(with_nodule(real.hu, row, column), real)
        return
    found = ringing(plant(real.hu), real)
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
