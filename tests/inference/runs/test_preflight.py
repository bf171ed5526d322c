"""What is said of a series unlike the training data."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med.checkpoints.model import ModelCard
from qdm_med.errors import CheckpointError
from qdm_med.inference.runs.preflight import unlike_training
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.volume import Geometry, Volume

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
