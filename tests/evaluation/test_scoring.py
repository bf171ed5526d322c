"""All columns of a slice: ranges side by side, errors by tissue, one line for what cannot be compared."""

import math
from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from qdm_med.errors import DataError
from qdm_med.evaluation.columns import COLUMNS, column, grouped
from qdm_med.evaluation.limits import Limit
from qdm_med.evaluation.measures.protocols import PAPER_PROTOCOL, PAPER_WINDOW, hu_protocol, protocols
from qdm_med.evaluation.methods.method import Restored
from qdm_med.evaluation.scoring import Truth, calibration_scores, score_slice
from qdm_med.intensity import CompandedRange
from tests.evaluation.phantoms import chest, noisier

INTENSITY = CompandedRange()


@pytest.fixture(scope="module")
def truth(make_truth):
    return make_truth(chest())


@pytest.fixture(scope="module")
def scores(truth):
    return score_slice(noisier(truth.hu), truth, INTENSITY)


def test_each_range_is_scored_as_scikit_image_scores_it(truth, scores):
    guess = noisier(truth.hu)
    window = [np.rint((np.clip(hu, -160, 240) + 160) / 400 * 255).astype(np.uint8) for hu in (truth.hu, guess)]
    whole = [np.clip(hu, -1024, 3071).astype(np.float64) for hu in (truth.hu, guess)]
    unit = [INTENSITY.to_unit(hu).astype(np.float64) for hu in (truth.hu, guess)]
    for prefix, (first, second), data_range in (("paper_", window, 255), ("hu_", whole, 4095), ("", unit, 2)):
        expected = peak_signal_noise_ratio(first, second, data_range=data_range)
        assert scores[f"{prefix}psnr_db"] == pytest.approx(expected, abs=1e-3)
        how = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": data_range}
        expected = structural_similarity(first.astype(float), second.astype(float), **how)
        assert scores[f"{prefix}ssim"] == pytest.approx(expected, abs=1e-5)


def test_every_range_tells_its_data_range():
    words = {protocol.name: protocol.words for protocol in protocols(INTENSITY)}
    assert words["network"].endswith("data range 2")
    assert words["hu"].endswith("data range 4095")
    assert words["paper"].endswith("data range 255")


def test_slices_degraded_in_a_window_are_scored_and_labelled_in_the_range_that_is_left(make_truth):
    words = {protocol.name: protocol.words for protocol in protocols(INTENSITY, PAPER_WINDOW)}
    assert words["hu"] == "HU, clipped to -160 to 240, data range 400"
    assert words["network"].endswith("data range 2; truth and input were clipped to -160 to 240 HU")
    whole = make_truth(chest())
    clipped = np.clip(whole.hu, -160, 240)
    truth = Truth(replace(whole.case, reference_hu=clipped, intensity=PAPER_WINDOW), clipped)
    guess = noisier(whole.hu)
    expected = peak_signal_noise_ratio(clipped, np.clip(guess, -160, 240), data_range=400)
    assert score_slice(guess, truth, INTENSITY, fidelity=False)["hu_psnr_db"] == pytest.approx(expected, abs=1e-3)


def test_the_papers_range_has_256_grey_levels_and_hu_are_clipped():
    hu = np.linspace(-1000, 1000, 5001, dtype=np.float32)
    assert np.array_equal(np.unique(PAPER_PROTOCOL.convert(hu)), np.arange(256))
    assert hu_protocol().convert(np.array([-2000.0, 5000.0])).tolist() == [-1024.0, 3071.0]


def test_the_unchanged_slice_is_perfect_in_every_column(truth):
    perfect = score_slice(truth.hu, truth, INTENSITY)
    best = {"low": 0.0, "zero": 0.0, "one": 1.0}
    for name, value in perfect.items():
        described = column(name)
        if "contrast_medium" in name and math.isnan(value):
            continue  # the phantom's vessels hold none
        if described.sense == "high":
            assert value == (math.inf if "psnr" in name else pytest.approx(1.0)), name
        # A(truth) - LR is the noise of the input: nobody is better than that without seeing it.
        elif described.sense and not name.startswith(("consistency_", "area_")):
            assert value == best[described.sense], name
    assert perfect["consistency_mae_hu"] == perfect["truth_consistency_mae_hu"]
    assert perfect["consistency_excess_hu"] == 0.0
    area_means = truth.hu.reshape(64, 4, 64, 4).mean(axis=(1, 3))
    assert perfect["area_mae_hu"] == pytest.approx(np.abs(area_means - truth.case.low_hu).mean(), abs=1e-3)


def test_errors_by_tissue_are_those_that_were_made(truth):
    guess = truth.hu.copy()
    guess[truth.hu >= 250] += 77.0
    guess[(truth.hu >= -950) & (truth.hu <= -500)] -= 33.0
    found = score_slice(guess, truth, INTENSITY, fidelity=False)
    assert found["bone_mae_hu"] == pytest.approx(77.0, abs=1e-3)
    assert found["lung_mae_hu"] == pytest.approx(33.0, abs=1e-3)
    assert found["fat_mae_hu"] == found["soft_tissue_mae_hu"] == 0.0
    assert {name for name in found if name.startswith("bias")} == {"bias_body_hu"}


def test_a_head_without_lungs_has_no_lung_columns_and_a_small_slice_no_ms_ssim(make_truth):
    row, column_ = np.mgrid[:64, :64]
    head = np.where(np.hypot(row - 32, column_ - 32) < 25, 40.0, -1024.0)
    found = score_slice(head, make_truth(head), INTENSITY)
    assert all(math.isnan(found[name]) for name in ("lung_mae_hu", "bias_lung_hu", "lung_dice", "ms_ssim"))
    assert found["bias_soft_tissue_hu"] == 0.0


def test_images_of_unequal_size_are_refused_in_one_line(truth):
    with pytest.raises(DataError, match=r"image of \(128, 128\) cannot be compared with a true slice of \(256, 256\)"):
        score_slice(truth.hu[::2, ::2], truth, INTENSITY)


def test_a_case_without_truth_is_refused_in_one_line(truth):
    with pytest.raises(DataError, match="has no true slice, which every metric here needs; give a store"):
        Truth.of(replace(truth.case, reference_hu=None))


def test_every_column_belongs_to_a_table(scores):
    groups = grouped(scores)
    assert list(groups) == ["network", "hu", "paper", "tissue", "consistency", "fidelity"]
    assert sum(map(len, groups.values())) == len(scores)
    assert {one.name for one in groups["network"]} == {"psnr_db", "ssim", "ms_ssim", "psnr_body_db", "ssim_body"}
    assert "mae_hu" in {one.name for one in groups["tissue"]}
    assert "consistency_mae_hu" in {one.name for one in groups["consistency"]}
    assert column("lpips_squeeze").sense == column("paper_lpips_alex").sense == "low"


class MeanDifference:
    """A stand-in for LPIPS."""

    column = "lpips_stub"

    def __call__(self, first, second):
        return (first - second).abs().mean(dim=(1, 2, 3))


def test_lpips_within_the_body_does_not_see_what_is_around_it(truth):
    around = np.where(truth.body, truth.hu, truth.hu + 300.0)
    within = np.where(truth.body, truth.hu + 300.0, truth.hu)
    seen = [score_slice(hu, truth, INTENSITY, perceptual=MeanDifference(), fidelity=False) for hu in (around, within)]
    assert seen[0]["lpips_stub"] > seen[0]["lpips_stub_body"] == 0.0
    assert seen[1]["lpips_stub"] == seen[1]["lpips_stub_body"] > 0.0
    assert list(seen[0]).index("lpips_stub") < list(seen[0]).index("lpips_stub_body")


def test_raw_and_calibrated_coverage_stand_side_by_side(truth):
    guess = noisier(truth.hu, 30.0)
    raw, calibrated = (np.full(guess.shape, std, dtype=np.float32) for std in (5.0, 30.0))
    scores = calibration_scores(Restored(guess, std_hu=raw, samples=8, calibrated_std_hu=calibrated), truth)
    assert scores["coverage_95"] < 0.5
    assert scores["coverage_95_calibrated"] == pytest.approx(0.95, abs=0.01)
    assert (scores["sample_std_hu"], scores["calibrated_std_hu"]) == pytest.approx((5.0, 30.0))
    assert "coverage_95_calibrated" not in calibration_scores(Restored(guess, std_hu=raw, samples=8), truth)
    assert calibration_scores(Restored(guess), truth) == {}
    assert column("coverage_95_calibrated").sense == column("calibrated_std_hu").sense == ""


def test_what_is_scored_is_what_is_described(truth):
    """Every column has its line in the table of columns, and every line its score."""
    guess = noisier(truth.hu, 30.0)
    spread = np.full(guess.shape, 30.0, dtype=np.float32)
    leaves = np.ones(truth.case.low_hu.shape, dtype=bool)
    scored = set(calibration_scores(Restored(guess, leaves, std_hu=spread, samples=8, calibrated_std_hu=spread), truth))
    for net in ("squeeze", "alex"):
        lpips = MeanDifference()
        lpips.column = f"lpips_{net}"
        scored |= score_slice(guess, truth, INTENSITY, perceptual=lpips).keys()
    assert scored == COLUMNS.keys()


def test_an_unknown_column_is_an_error_and_not_low_is_better():
    with pytest.raises(DataError, match="column 'sharpness' is unknown to this version"):
        grouped(["psnr_db", "sharpness"])


def test_every_limit_holds_what_is_best():
    best = {"high": 1.0, "low": 0.0, "zero": 0.0, "one": 1.0}
    limited = [one for one in COLUMNS.values() if one.limit]
    assert len(limited) == 11
    for one in limited:
        assert not one.limit.broken_by(best[one.sense]), one.name
        assert not one.limit.broken_by(math.nan)
        assert one.limit.broken_by(one.limit.high + 1e-3)


def test_a_limit_reaches_as_far_as_interpolation_does_and_a_margin_beyond():
    limit = Limit(-4.0, 4.0, "shifted", margin=2.0)
    for interpolated, within, beyond in ((9.0, (-4.0, 11.0), (-4.1, 11.1)), (-9.0, (-11.0, 4.0), (-11.1, 4.1))):
        assert not any(limit.broken_by(value, interpolated) for value in within)
        assert all(limit.broken_by(value, interpolated) for value in beyond)
    assert limit.broken_by(4.1, 0.0)
    assert not limit.broken_by(math.nan, 9.0)
    assert limit.broken_by(4.1, math.nan)
