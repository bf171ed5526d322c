"""The report of a series: no truth, no network, no patient; what it shows is what was written."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict, replace

import numpy as np
import pydicom
import pytest
import torch
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.source_agreement import source_agreement
from qdm_med.evaluation.report.of_series import check_report_place, report_volume, slices_to_show, spread_over
from qdm_med.evaluation.report.pictures import INPUT, INTERPOLATED
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.runs.series import upscale_volume
from qdm_med.inference.upscaler import Upscaler
from qdm_med.io.read import read_volume
from qdm_med.volume import CtSlice
from tests.evaluation.phantoms import chest
from tests.evaluation.report.pages import (
    Page,
    assert_asked_nobody,
    assert_asks_for_nothing,
    decoded,
    grey,
    needs_browser,
    open_in_browser,
    pixel,
    press,
    viewer_data,
)

SECRETS = ("Secret^Name", "SECRET-ID", "secret-folder")
RESULT = "tiny, x4, mean of 2 samples"


@pytest.fixture(scope="module")
def written(checkpoint, tmp_path_factory):
    """Five slices of 24 x 32 pixels with a corner of padding, super-resolved, and their report."""
    folder = tmp_path_factory.mktemp("series") / "secret-folder"
    folder.mkdir()
    dataset = pydicom.dcmread(get_testdata_file("CT_small.dcm", download=False))
    pixels = dataset.pixel_array.copy()
    dataset.Rows, dataset.Columns = 24, 32
    dataset.PatientName, dataset.PatientID = SECRETS[:2]
    for index in range(5):
        plane = pixels[40 + index : 64 + index, 40:72].copy()
        plane[:3] = dataset.PixelPaddingValue = -2000
        dataset.PixelData = plane.tobytes()
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[str(index)])
        dataset.ImagePositionPatient = [-158.135803, -179.035797, -75.699997 + 5 * index]
        dataset.save_as(folder / f"{index}.dcm")
    options = UpscaleOptions(steps=2, samples=2, threshold=0.02)
    noisy = replace(checkpoint, denoiser=copy.deepcopy(checkpoint.denoiser))
    with torch.no_grad():  # zero at the start: samples would not differ
        noisy.denoiser.read_out.weight.normal_(std=0.1, generator=torch.Generator().manual_seed(0))
    upscaler = Upscaler(noisy, options, device=torch.device("cpu"))
    volume = read_volume(folder)
    watch = slices_to_show(volume)
    summary = upscale_volume(volume, folder.with_name("out"), upscaler, uncertainty=True, watch=watch)
    report = folder.with_name("page") / "report.html"
    report_volume(volume, report, upscaler, summary, watch, options=asdict(options))
    return folder, summary, report


def test_it_shows_slices_spread_over_the_series_as_they_were_written(written):
    source, summary, report = written
    data = viewer_data(report)
    assert data["truth"] is None
    assert [case["title"] for case in data["cases"]] == ["slice 1 of 5", "slice 3 of 5", "slice 5 of 5"]
    for case, name in zip(data["cases"], ("00001.dcm", "00003.dcm", "00005.dcm"), strict=True):
        assert [one["name"] for one in case["pictures"]] == [INPUT, INTERPOLATED, RESULT]
        assert (case["rows"], case["columns"]) == (96, 128)
        low, plain, result = (decoded(one["png"]) for one in case["pictures"])
        stored = pydicom.dcmread(summary.out / name)
        hu = stored.pixel_array * float(stored.RescaleSlope) + float(stored.RescaleIntercept)
        np.testing.assert_allclose(result[12:], hu[12:], atol=1)
        assert (result[:12] == -1024).all()
        assert (plain[:12] == -1024).all()
        assert plain.shape == result.shape
        std = pydicom.dcmread(summary.uncertainty / name).pixel_array
        np.testing.assert_allclose(decoded(case["pictures"][2]["std"]), std, atol=0.51)
        assert low.shape == (24, 32)
    volume = read_volume(source)
    np.testing.assert_array_equal(decoded(data["cases"][1]["pictures"][0]["png"])[3:], np.rint(volume.slices[2].hu)[3:])


def test_nothing_in_it_asks_for_a_network_or_names_the_patient(written):
    source, _, report = written
    assert_asks_for_nothing(report)
    text = report.read_text()
    headers = [pydicom.dcmread(path) for path in source.iterdir()]
    uids = {
        str(one[key].value) for one in headers for key in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    for secret in (*SECRETS, *uids, str(source.parent)):
        assert secret not in text


def test_tables_and_receipt_say_what_was_done(written):
    _, summary, report = written
    text = report.read_text()
    tags = Page(text).tags
    assert sum(tag == "table" for tag, _ in tags) == 2
    cells = [re.sub(r"<.*?>", " ", row).split() for row in re.findall(r"<tr>(.*?)</tr>", text, re.DOTALL)]
    run = next(row for row in cells if row[:2] == ["the", "run,"])
    assert f"{summary.active_leaves:.1%}" in run
    assert f"{summary.active_windows:.1%}" in run
    receipt = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", text))
    assert receipt["model_sha256"] == "0" * 64
    assert {"qdm_med", "torch", "python", "model", "seed", "steps", "samples", "threshold"} <= set(receipt)
    assert receipt["source"] == "dicom, 5 slices of 24 x 32 pixels"


def test_controls_that_need_a_true_slice_are_not_there(written):
    ids = {one.get("id") for _, one in Page(written[2].read_text()).tags}
    assert {"std", "leaves", "split", "left", "right"} <= ids
    assert not {"error", "boxes"} & ids
    assert "Figures" not in written[2].read_text()


@pytest.fixture(scope="module")
def browser(written, tmp_path_factory):
    with open_in_browser(written[2], tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@needs_browser
def test_the_browser_asks_nobody_and_complains_of_nothing(browser, written):
    assert_asked_nobody(browser, written[2])


@needs_browser
def test_the_viewer_works_by_keyboard_without_a_true_slice(browser, written):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    _, plain, result = viewer_data(written[2])["cases"][0]["pictures"]
    left, right, std = decoded(plain["png"]), decoded(result["png"]), decoded(result["std"])
    browser.execute_script("document.activeElement.blur()")
    for key, centre, width in (("1", -600, 1500), ("3", 400, 1800), ("2", 40, 400)):
        press(browser, key)
        assert pixel(browser, 50, 10)[0] == pytest.approx(grey(left[50, 10], centre, width), abs=1)
        assert pixel(browser, 50, 100)[0] == pytest.approx(grey(right[50, 100], centre, width), abs=1)
    press(browser, "e", "b")  # nothing to switch on
    assert pixel(browser, 50, 100)[0] == pytest.approx(grey(right[50, 100], 40, 400), abs=1)
    divider = browser.find_element(By.ID, "split")
    browser.execute_script("arguments[0].focus()", divider)
    press(browser, Keys.HOME)
    assert pixel(browser, 50, 10)[0] == pytest.approx(grey(right[50, 10], 40, 400), abs=1)
    press(browser, "u")
    row, column = np.unravel_index(std.argmax(), std.shape)
    shown = [pixel(browser, int(row), place)[0] for place in range(4, 128, 8)]
    np.testing.assert_allclose(shown, np.minimum(255, 255 * std[row, 4::8] / 100), atol=1)
    assert pixel(browser, int(row), int(column))[0] > 10
    press(browser, "q")
    caption = browser.find_element(By.ID, "caption").text
    assert "black 0, yellow 100 HU" in caption
    assert "leaves where detail was generated" in caption
    assert "true" not in caption
    press(browser, "u", "q")


@needs_browser
def test_pointing_reads_two_values(browser, written):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    ActionChains(browser).move_to_element(browser.find_element(By.ID, "canvas")).perform()
    told = browser.find_element(By.ID, "readout").text
    assert re.fullmatch(r"row \d+, column \d+: left -?\d+, right -?\d+ HU", told)


@needs_browser
def test_tab_reaches_every_control_and_each_has_a_name(browser):
    controls = browser.execute_script(
        "return [...document.querySelectorAll('select, input')].map(e => [e.labels.length, e.tabIndex])"
    )
    assert len(controls) == 12
    assert all(labels == 1 and index == 0 for labels, index in controls)


def test_figures_find_a_shift_and_a_tissue_that_drifts():
    source = chest(128)
    ct_slice = CtSlice(source, np.zeros(source.shape, bool), 0.0)
    fine = source.repeat(4, 0).repeat(4, 1)
    same = source_agreement(fine, ct_slice, 4)
    assert (same.bias, same.mae, same.most) == pytest.approx((0, 0, 0), abs=1e-4)
    shifted = source_agreement(fine + 10, ct_slice, 4)
    assert (shifted.bias, shifted.mae, shifted.most) == pytest.approx((10, 10, 10), abs=1e-3)
    drifted = source_agreement(np.where(fine < -500, fine + 5, fine), ct_slice, 4)
    lung, fat, soft_tissue, *_ = drifted.tissues
    assert lung == pytest.approx(5, abs=1e-3)
    assert abs(soft_tissue) < 1e-3
    assert np.isnan(fat) or abs(fat) < 1e-3


def test_padding_does_not_count():
    source = np.full((16, 16), 40.0, np.float32)
    padding = np.zeros((16, 16), bool)
    padding[:4] = True
    fine = source.repeat(4, 0).repeat(4, 1)
    fine[:16] = 3000
    assert source_agreement(fine, CtSlice(source, padding, 0.0), 4).bias == 0
    nothing = source_agreement(fine, CtSlice(source, np.ones_like(padding), 0.0), 4)
    assert np.isnan([nothing.bias, nothing.mae, nothing.most, *nothing.tissues]).all()


def test_slices_are_spread_over_the_series():
    assert spread_over(1, 3) == [0]
    assert spread_over(3, 3) == [0, 1, 2]
    assert spread_over(100, 3) == [16, 50, 83]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("ct.nii.gz", "ends in .html"),
        ("folder.html", "is a folder"),
        ("there.html", "exists; choose another --report or use --overwrite"),
        ("in/r.html", "lies inside in"),
        ("out/deep/r.html", "lies inside out"),
        ("there.html/r.html", "no folder that can be written"),
    ],
)
def test_a_place_that_does_not_serve_is_one_line(tmp_path, name, said):
    (tmp_path / "in").mkdir()
    (tmp_path / "folder.html").mkdir()
    (tmp_path / "there.html").write_text("earlier")
    with pytest.raises(ConfigError, match=re.escape(said)):
        check_report_place(tmp_path / name, tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "there.html").read_text() == "earlier"


def test_an_earlier_report_is_replaced_on_demand(tmp_path):
    (tmp_path / "there.html").write_text("earlier")
    check_report_place(tmp_path / "there.html", tmp_path / "in", tmp_path / "out", overwrite=True)
    check_report_place(tmp_path / "new" / "r.HTML", tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["there.html"]
