"""What is said of a series unlike the training data."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import CheckpointError
from qdm_med.inference.runs.preflight import unlike_hu, unlike_training
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.volume import CtSlice, Geometry, Provenance, Volume

DOMAIN = {"pixel_spacing_mm": [0.5, 2.0], "slice_thickness_mm": [1.0, 5.0], "matrix": [64, 128]}


def volume(spacing=(2.5, 0.8, 0.8), matrix=(64, 128)):
    shape = (2, *matrix)
    return Volume.from_array(np.zeros(shape, np.float32), Geometry(shape, np.diag([*spacing, 1.0])))


def card(training):
    return ModelCard("m", AutoencoderConfig(), training=training)


@pytest.mark.parametrize("training", [{}, {"domain": {}}, {"domain": None}, {"domain": DOMAIN}, {"note": 1}])
def test_nothing_is_said_of_a_series_within_the_ranges_or_without_ranges(training):
    assert unlike_training(volume(), card(training)) is None


@pytest.mark.parametrize("spacing", [(1.0, 0.5, 0.5), (5.0, 2.0, 2.0), (5.0, 2.001, 0.4999)])
def test_the_ends_belong_to_the_range(spacing):
    assert unlike_training(volume(spacing), card({"domain": DOMAIN})) is None


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
    assert unlike_training(volume(**odd), card({"domain": DOMAIN})) == f"unlike what model m was trained on: {told}"


def test_all_that_lies_outside_stands_in_one_line():
    line = unlike_training(volume((8.0, 9.0, 9.0), (8, 8)), card({"domain": DOMAIN}))
    assert line.count("trained on") == 4
    assert "\n" not in line


def test_what_a_card_does_not_record_is_not_checked():
    assert unlike_training(volume((8.0, 9.0, 9.0)), card({"domain": {"matrix": [64, 128]}})) is None


@pytest.mark.parametrize("domain", [[1, 2], "x", {"matrix": 3}, {"matrix": []}, {"matrix": ["a", "b"]}])
def test_ranges_that_are_none_are_refused(domain):
    with pytest.raises(CheckpointError, match="domain"):
        unlike_training(volume(), card({"domain": domain}))


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
    assert unlike_hu(of_values(hu)) is None


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
    line = unlike_hu(of_values(values))
    assert line is not None
    assert "do not look like HU" in line
    assert "--hu-offset" in line


def test_padding_does_not_count():
    hu = np.clip(body() + 1024, 0, 4095).astype(np.float32)
    padding = np.zeros((32, 32), bool)
    padding[:4] = True
    hu[:, :4] = -2000
    volume = Volume(tuple(CtSlice(each, padding, float(n)) for n, each in enumerate(hu)), Geometry(hu.shape, np.eye(4)), Provenance("memory", "s"))
    assert unlike_hu(volume) is not None
