"""Every bar of the clinical benchmark can be missed: faults are planted into the truth, which itself holds all of them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from qdm_med.data.store.slices import SliceRecord, SliceStore, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.evaluation.clinical.details import DetailCase, detail_case
from qdm_med.evaluation.clinical.judge import figures_of, judge, verdict
from qdm_med.evaluation.clinical.ladder import LadderCase, ladder_case
from qdm_med.evaluation.clinical.measures import MEASURES
from qdm_med.evaluation.clinical.patients import PatientCase, patient_cases
from qdm_med.evaluation.clinical.resolution import EdgeCase, LinePairCase, edge_case, line_pair_case
from qdm_med.evaluation.clinical.run import findings
from qdm_med.evaluation.clinical.scan import Scan
from qdm_med.evaluation.methods.back_projection import BackProjection
from tests.evaluation.clinical import faults
from tests.evaluation.phantoms import chest

SCALE = 4


def chest_with_contrast_medium() -> np.ndarray:
    hu = chest()
    row, column = np.indices(hu.shape)
    hu[np.hypot(row - 150, column - 160) < 9] += 280.0  # an artery
    return np.clip(np.rint(hu), -1024, 3071).astype(np.int16)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clinical") / "store"
    with SliceStoreWriter(folder, slice_shape=(256, 256)) as writer:
        hu = chest_with_contrast_medium()
        writer.add(hu, SliceRecord("val", "p", "s", 0.0, 0.7, 1.0, "", "", "phantom", slice_checksum(hu)))
    return SliceStore.open(folder)


@pytest.fixture(scope="module")
def cases(store):
    rng = np.random.default_rng(5)
    return [
        ladder_case(SCALE, rng),
        ladder_case(SCALE, rng, directed=True),
        edge_case(SCALE, rng),
        line_pair_case(SCALE, rng),
        detail_case(SCALE, Scan(1.0), rng),
        detail_case(SCALE, Scan(1.3, 10.0), rng),
        *patient_cases(store, [0], SCALE, seed=0),
    ]


@pytest.fixture(scope="module")
def opponents(cases):
    methods = BackProjection(0), BackProjection()
    return {one.name: figures_of(found for case in cases for found in findings(one, case)) for one in methods}


def judged(cases, opponents, answer, kind):
    """Judge an answer on the slices of one kind; elsewhere it is the truth."""
    images = ((case, answer(case) if isinstance(case, kind) else case.truth_hu) for case in cases)
    own = figures_of(found for case, hu in images for found in case.findings(hu.astype(np.float32)))
    return judge(own, opponents)


def missed(judgements):
    return {one.measure.name for one in judgements if one.held is False}


def test_the_truth_holds_every_bar(cases, opponents):
    judgements = judged(cases, opponents, faults.nothing, object)
    assert missed(judgements) == set()
    assert {one.measure.name for one in judgements if one.held} == {
        one.name for one in MEASURES if one.sense != "shown"
    }


UNIFORM = ("lung", "fat", "soft_tissue", "contrast_medium", "bone", "streaks")
TISSUES = ("lung", "fat", "soft_tissue", "contrast_medium", "bone")
PLANTED = {
    "noise amplified": (faults.noise_amplified, LadderCase, {f"noise_{name}" for name in UNIFORM}),
    "noise amplified in contrast medium": (
        faults.noise_amplified_in_contrast_medium,
        LadderCase,
        {"noise_contrast_medium", "noise_streaks"},
    ),
    "HU shifted": (faults.hu_shifted, LadderCase, {f"shift_{name}" for name in UNIFORM}),
    "wisps": (faults.wisps, LadderCase, {"wisps", "wisps_streaks"}),
    "contrast flattened": (faults.contrast_flattened, DetailCase, {"contrast_kept", "detectability"}),
    "lumps": (faults.lumps, DetailCase, {"detectability"}),
    "vessels erased": (faults.vessels_erased, DetailCase, {"vessel_error", "lung_error"}),
    "bone texture destroyed": (faults.bone_texture_destroyed, DetailCase, {"bone_texture"}),
    "soft tissue wrong": (faults.soft_tissue_wrong, DetailCase, {"soft_tissue_error"}),
    "blurred edges": (faults.blurred, EdgeCase, {"mtf50", "mtf10"}),
    "false rims": (faults.sharpened, EdgeCase, {"overshoot"}),
    "blurred line pairs": (
        faults.blurred,
        LinePairCase,
        {f"line_pairs_{number}" for number in ("0.2", "0.3", "0.4", "0.45")},
    ),
    "moved line pairs": (faults.moved, LinePairCase, {"line_pairs_0.4", "line_pairs_0.45"}),
    "blurred patients": (
        faults.anatomy_wrong,
        PatientCase,
        {f"{what}_{way}" for what in ("rmse", "resolution") for way in ("area", "spread", "noisy")} | {"rmse_body"},
    ),
    "body shifted": (partial(faults.hu_shifted, by=40.0), PatientCase, {"bias_body"}),
    "lung off": (partial(faults.tissue_off, low=-950, high=-500, by=90.0), PatientCase, {"bias_lung", "rmse_lung"}),
    "fat off": (partial(faults.tissue_off, low=-150, high=-30, by=-120.0), PatientCase, {"bias_fat", "rmse_fat"}),
    "muscle off": (
        partial(faults.tissue_off, low=-30, high=150, by=90.0),
        PatientCase,
        {"bias_soft_tissue", "rmse_soft_tissue"},
    ),
    "contrast medium off": (
        partial(faults.tissue_off, low=150, high=500, by=-120.0),
        PatientCase,
        {"bias_contrast_medium", "rmse_contrast_medium"},
    ),
    "bone off": (partial(faults.tissue_off, low=250, high=3000, by=-220.0), PatientCase, {"bias_bone", "rmse_bone"}),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_misses_its_bars(cases, opponents, fault):
    answer, kind, expected = PLANTED[fault]
    judgements = judged(cases, opponents, answer, kind)
    assert expected <= missed(judgements)
    told = verdict(fault, judgements)
    assert f"{fault}: " in told
    assert "nan" not in told


def test_noise_in_contrast_medium_alone_is_not_charged_to_soft_tissue(cases, opponents):
    judgements = judged(cases, opponents, faults.noise_amplified_in_contrast_medium, LadderCase)
    noisy = {name for name in missed(judgements) if name.startswith("noise")}
    assert noisy == {"noise_contrast_medium", "noise_streaks"}
    assert "noise in contrast medium is amplified" in verdict("x4", judgements)


def test_every_bar_is_missed_by_some_planted_fault():
    named = set.union(*(expected for _, _, expected in PLANTED.values()))
    assert {one.name for one in MEASURES if one.sense != "shown"} <= named


def test_a_constant_image_holds_neither_contrast_nor_texture_nor_edges(cases, opponents):
    own = figures_of(found for case in cases for found in case.findings(np.full_like(case.truth_hu, 40.0)))
    names = missed(judge(own, opponents))
    assert {"contrast_kept", "detectability", "bone_texture", "mtf50", "line_pairs_0.2", "resolution_area"} <= names
