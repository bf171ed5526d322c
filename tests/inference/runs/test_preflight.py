"""What is said of a series unlike the training data."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import CheckpointError, SeriesError
from qdm_med.inference.runs.preflight import look_at, unlike_hu
from qdm_med.io.describe import describe_tree
from qdm_med.io.read import read_volume
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.volume import CtSlice, Geometry, Provenance, Volume
from tests.conftest import SHARED

DOMAIN = {"pixel_spacing_mm": [0.5, 2.0], "slice_thickness_mm": [1.0, 5.0], "matrix": [64, 128]}


def volume(spacing=(2.5, 0.8, 0.8), matrix=(64, 128)):
    shape = (2, *matrix)
    return Volume.from_array(np.zeros(shape, np.float32), Geometry(shape, np.diag([*spacing, 1.0])))


def card(training):
    return ModelCard("m", AutoencoderConfig(), training=training)


@pytest.mark.parametrize("training", [{}, {"domain": {}}, {"domain": None}, {"domain": DOMAIN}, {"note": 1}])
def test_nothing_is_said_of_a_series_within_the_ranges_or_without_ranges(training):
    assert look_at(volume(), card(training)).unlike is None


@pytest.mark.parametrize("spacing", [(1.0, 0.5, 0.5), (5.0, 2.0, 2.0), (5.0, 2.001, 0.4999)])
def test_the_ends_belong_to_the_range(spacing):
    assert look_at(volume(spacing), card({"domain": DOMAIN})).unlike is None


@pytest.mark.parametrize(
    ("odd", "told"),
    [
        ({"spacing": (2.5, 0.4, 0.4)}, "pixel spacing in mm 0.4 (trained on 0.5 to 2)"),
        ({"spacing": (2.5, 0.8, 2.5)}, "pixel spacing in mm 0.8x2.5 (trained on 0.5 to 2)"),
        ({"spacing": (8.0, 0.8, 0.8)}, "slice thickness in mm 8 (trained on 1 to 5)"),
        ({"matrix": (64, 129)}, "matrix 64x129 (trained on 64 to 128)"),
        ({"matrix": (17, 64)}, "matrix 17x64 (trained on 64 to 128)"),
    ],
)
def test_one_line_says_what_lies_outside(odd, told):
    assert look_at(volume(**odd), card({"domain": DOMAIN})).unlike == f"unlike what model m was trained on: {told}"


def test_all_that_lies_outside_stands_in_one_line():
    line = look_at(volume((8.0, 9.0, 9.0), (8, 8)), card({"domain": DOMAIN})).unlike
    assert line.count("trained on") == 4
    assert "\n" not in line


def test_what_a_card_does_not_record_is_not_checked():
    assert look_at(volume((8.0, 9.0, 9.0)), card({"domain": {"matrix": [64, 128]}})).unlike is None


@pytest.mark.parametrize("domain", [[1, 2], "x", {"matrix": 3}, {"matrix": []}, {"matrix": ["a", "b"]}])
def test_ranges_that_are_none_are_refused(domain):
    with pytest.raises(CheckpointError, match="domain"):
        _ = look_at(volume(), card({"domain": domain})).unlike


def of_values(hu):
    return Volume.from_array(np.asarray(hu, dtype=np.float32), Geometry(hu.shape, np.eye(4)))


def body(seed=0):
    """Air, fat, tissue and bone, and the noise of a scan."""
    rng = np.random.default_rng(seed)
    return rng.choice([-1000.0, -100.0, 40.0, 700.0], (3, 32, 32)) + 12 * rng.standard_normal((3, 32, 32))


@pytest.mark.parametrize(
    "hu",
    [
        body(),
        40 + 12 * np.random.default_rng(1).standard_normal((2, 16, 16)),  # inside an organ
        np.full((2, 8, 8), -1000.0),
        np.full((2, 8, 8), 40.0),
        np.clip(body(), -160, 240),
    ],
)
def test_hounsfield_units_raise_no_alarm(hu):
    assert unlike_hu(of_values(hu).slices) is None


@pytest.mark.parametrize(
    "values",
    [
        (body() + 1024) / 4095,
        np.clip((body() + 160) / 400 * 255, 0, 255),
        np.clip(body() + 1024, 0, 4095),
        (body() - body().mean()) / body().std(),
        np.clip(body(), -1000, 1000) / 1000,
    ],
    ids=["0 to 1", "0 to 255", "stored values", "unit variance", "-1 to 1"],
)
def test_other_intensities_are_told_with_their_values_and_a_remedy(values):
    line = unlike_hu(of_values(values).slices)
    assert line is not None
    assert "do not look like HU" in line
    assert "--hu-offset" in line


def test_padding_does_not_count():
    hu = np.clip(body() + 1024, 0, 4095).astype(np.float32)
    padding = np.zeros((32, 32), bool)
    padding[:4] = True
    hu[:, :4] = -2000
    volume = Volume(
        tuple(CtSlice(each, padding, float(n)) for n, each in enumerate(hu)),
        Geometry(hu.shape, np.eye(4)),
        Provenance("memory", "s"),
    )
    assert unlike_hu(volume.slices) is not None


def scanned(noise=10.0, fwhm=1.4, slices=3, seed=0):
    """A body with lungs, scanned with a point spread and white noise of a kernel's width."""
    fine, side = 4, 128
    y, x = (np.mgrid[: side * fine, : side * fine] + 0.5) / fine
    truth = np.full(x.shape, -1000.0)
    truth[((x - 64) / 56) ** 2 + ((y - 64) / 46) ** 2 < 1] = 40
    for column, row, radius, value in ((40, 64, 13, -850), (92, 60, 12, -820), (64, 88, 7, 900)):
        truth[np.hypot(x - column, y - row) < radius] = value
    low = gaussian_filter(truth, fwhm / 2.3548 * fine).reshape(side, fine, side, fine).mean(axis=(1, 3))
    rng = np.random.default_rng(seed)
    grain = gaussian_filter(rng.standard_normal((slices, side, side)), (0, 0.5, 0.5))
    hu = np.clip(low + noise * grain / grain.std(), -1024, 3071).astype(np.float32)
    return Volume.from_array(hu, Geometry(hu.shape, np.diag([2.5, 0.8, 0.8, 1.0])))


CLINICAL = {"domain": {"noise_hu": [0.0, 45.0], "fwhm_pixels": [0.6, 2.3]}}


@pytest.mark.parametrize(("noise", "fwhm"), [(3.0, 0.8), (12.0, 1.4), (25.0, 2.2)])
def test_nothing_is_said_of_noise_and_point_spread_that_were_trained_on(noise, fwhm):
    seen = look_at(scanned(noise, fwhm), card(CLINICAL))
    assert seen.warnings == ()
    told = dict(seen.parameters())
    assert float(told["source noise in HU"]) == pytest.approx(noise, rel=0.15)
    assert float(told["source point spread in pixels"]) == pytest.approx(fwhm, rel=0.1)


@pytest.mark.parametrize(
    ("odd", "told"),
    [({"noise": 90.0}, "noise in HU"), ({"fwhm": 3.4}, "point spread in pixels")],
)
def test_noise_and_point_spread_beyond_the_training_are_told_with_both_numbers(odd, told):
    seen = look_at(scanned(**odd), card(CLINICAL))
    (line,) = seen.warnings
    assert line.startswith(f"unlike what model m was trained on: {told} ")
    assert "trained on" in line
    with pytest.raises(SeriesError, match="scan: unlike what model m was trained on"):
        seen.refuse("scan")


def test_a_model_of_large_pixels_says_nothing_of_noise_but_records_it():
    seen = look_at(scanned(60.0), card({"domain": DOMAIN}))
    assert seen.warnings == ()
    assert [name for name, _ in seen.parameters()] == ["source noise in HU", "source point spread in pixels"]


def test_what_cannot_be_measured_is_not_recorded():
    assert look_at(of_values(np.full((2, 64, 64), -1000.0)), card(CLINICAL)).parameters() == ()


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dcm_qa_ct_ge_head", "tcia_lidc_idri_0001", "tcia_rider_pilot_0117", "tcia_acrin_flt_breast_001"]
)
def test_ordinary_clinical_series_raise_no_alarm(name, tmp_path):
    with zipfile.ZipFile(SHARED / "data" / "ct" / f"{name}.zip") as archive:
        archive.extractall(tmp_path)
    for series in describe_tree(tmp_path):
        seen = look_at(read_volume(tmp_path, series_uid=series.series_uid), card(CLINICAL))
        assert seen.warnings == ()
        assert len(seen.parameters()) == 2
