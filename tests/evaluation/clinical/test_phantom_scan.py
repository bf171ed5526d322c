"""A user's phantom: places in a file, harm that a method does, and one line for what is wrong with the file."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from qdm_med.errors import QdmMedError
from qdm_med.evaluation.clinical.judge import figures_of, judge
from qdm_med.evaluation.clinical.phantom_scan import read_phantom, read_regions
from qdm_med.evaluation.clinical.run import findings
from qdm_med.evaluation.methods.back_projection import BackProjection

REGIONS = """
inserts:
  - {name: acrylic, centre: [32, 30], radius: 12, hu: 120}
line_pairs:
  - {name: 4 lp/cm, centre: [48, 48], radii: [38, 44], angles: [10, 60]}
  - {name: 2 lp/cm, box: [60, 60, 75, 80]}
"""


@pytest.fixture
def scan(tmp_path):
    """A slice with an insert, bars in a box and spokes on an arc, as NIfTI, and the file of its regions."""
    row, column = np.mgrid[:96, :96].astype(float)
    hu = np.full((96, 96), 40.0)
    hu[np.hypot(row - 32, column - 30) < 12] = 120
    hu[60:76, 60:81] += 300 * ((column[60:76, 60:81] // 2) % 2)
    away, angle = np.hypot(row - 48, column - 48), np.degrees(np.arctan2(48 - row, column - 48))
    hu[(away > 36) & (away < 46) & (angle > 5) & (angle < 65) & (angle // 4 % 2 == 0)] = 600
    hu = gaussian_filter(hu, 0.5) + np.random.default_rng(0).normal(0, 8, hu.shape)
    image = nibabel.Nifti1Image(np.rint(hu).T[..., None].astype(np.int16), np.diag([-0.5, -0.5, 2.0, 1.0]))
    nibabel.save(image, tmp_path / "phantom.nii")
    (tmp_path / "regions.yaml").write_text(REGIONS)
    return tmp_path


def judged(phantom, answer):
    case = phantom.case(4)
    opponents = {
        one.name: figures_of(findings(one, case), phantom.measures) for one in (BackProjection(0), BackProjection())
    }
    judgements = judge(figures_of(case.findings(answer(case)), phantom.measures), opponents, phantom.measures)
    return {one.measure.name: one for one in judgements}


def bicubic(case):
    return BackProjection(0).restore(case.low_hu, case.scale).hu


def test_bicubic_holds_what_is_measured_against_itself(scan):
    found = judged(read_phantom(scan / "phantom.nii", scan / "regions.yaml"), bicubic)
    assert set(found) == {
        "noise of acrylic",
        "shift of acrylic",
        "rim of acrylic",
        "modulation of 4 lp/cm",
        "modulation of 2 lp/cm",
    }
    assert all(one.held for one in found.values())
    assert found["modulation of 4 lp/cm"].value > 200
    assert found["modulation of 2 lp/cm"].value > 200


def test_blur_loses_line_pairs_and_rims_and_a_shift_is_told(scan):
    phantom = read_phantom(scan / "phantom.nii", scan / "regions.yaml")
    blurred = judged(phantom, lambda case: gaussian_filter(bicubic(case), 6))
    assert {name for name, one in blurred.items() if not one.held} >= {
        "rim of acrylic",
        "modulation of 4 lp/cm",
        "modulation of 2 lp/cm",
    }
    wrong = judged(phantom, lambda case: 3 * (bicubic(case) - 120) + 130)
    assert not wrong["noise of acrylic"].held
    assert not wrong["shift of acrylic"].held
    assert "noise in acrylic of the phantom is amplified" in wrong["noise of acrylic"].sentence()


def test_json_is_read_as_well(tmp_path):
    (tmp_path / "regions.json").write_text(json.dumps({"inserts": [{"name": "air", "centre": [5, 6], "radius": 3}]}))
    assert read_regions(tmp_path / "regions.json").inserts[0].centre == (5.0, 6.0)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("inserts: []", "no inserts"),
        ("inserts: [{name: a, centre: [90, 30], radius: 12}]", "leaves the 96 x 96 slice"),
        ("line_pairs: [{name: a, centre: [1, 2]}]", "give either centre, radii and angles, or a box"),
        ("line_pairs: [{name: a, box: [1, 2, 200, 3]}]", "leaves the 96 x 96 slice"),
        ("slice: 7\ninserts: [{name: a, centre: [32, 30], radius: 12}]", "slice 7 is not in"),
        ("insert: 1", "unknown insert"),
        ("inserts: [{name: a, centre: [32, 30], radius: 12}, {name: a, centre: [32, 30], radius: 5}]", "named twice"),
        ("inserts: [", "cannot be read"),
        ("- 1", "expected a mapping"),
    ],
)  # fmt: skip
def test_a_file_of_regions_that_does_not_serve_is_refused_in_one_line(scan, text, told):
    (scan / "regions.yaml").write_text(text)
    with pytest.raises(QdmMedError, match=r"regions\.yaml|phantom\.nii") as refused:
        read_phantom(scan / "phantom.nii", scan / "regions.yaml")
    assert told in str(refused.value)


@pytest.mark.shared
def test_a_real_catphan_is_read_and_its_bars_modulate(tmp_path):
    from tests.conftest import SHARED

    places = json.loads((SHARED / "data/bench/catphan/linepairs_404.json").read_text())
    first, last = (angle / 20 for angle in places["gauges"]["3"])
    bars = {"name": "3 lp/cm", "centre": places["centre"], "radii": places["radii"], "angles": [first, last]}
    (tmp_path / "regions.json").write_text(json.dumps({"line_pairs": [bars]}))
    phantom = read_phantom(SHARED / "data/bench/catphan/linepairs_404.dcm", tmp_path / "regions.json")
    assert judged(phantom, bicubic)["modulation of 3 lp/cm"].value > 50
