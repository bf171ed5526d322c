"""The report: one file, no network, no patient data; and a browser shows what the numbers say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qdm_med.errors import ConfigError
from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.report.page import write_report
from qdm_med.evaluation.report.pictures import INPUT, TRUTH, choose_slices, hu_png
from qdm_med.evaluation.run import Outputs, evaluate_checkpoint
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


@pytest.fixture(scope="module")
def report(store, checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    options = BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"), samples=2)
    evaluate_checkpoint(store.path, checkpoint, options, device=torch.device("cpu"), outputs=Outputs(report=path))
    return path


def test_nothing_in_the_file_asks_for_a_network(report):
    assert_asks_for_nothing(report)


def test_images_carry_hu_exactly_and_no_identifier(report, store, checkpoint):
    data = viewer_data(report)
    assert [case["title"].split(",")[0] for case in data["cases"]] == ["slice 1", "slice 3"]
    names = [picture["name"] for picture in data["cases"][0]["pictures"]]
    assert names == [TRUTH, INPUT, "bicubic", "tiny, 2 steps, s = 0.15", "tiny, 2 steps, s = 0.15, mean of 2 samples"]
    case = make_case(store, 1, 4, 0, checkpoint.card.intensity)
    np.testing.assert_array_equal(decoded(data["cases"][0]["pictures"][0]["png"]), case.reference_hu)
    np.testing.assert_array_equal(decoded(data["cases"][0]["pictures"][1]["png"]), np.rint(case.low_hu))
    assert store.records[1].patient not in report.read_text()


def test_the_whole_ct_range_survives_the_png():
    hu = np.arange(-1024, 3072, dtype=np.float32).reshape(64, 64)
    np.testing.assert_array_equal(decoded(hu_png(hu)), hu)
    assert decoded(hu_png(np.array([[-2000.0, 5000.0]]))).tolist() == [[-1024, 3071]]


def test_slices_are_the_middle_ones_of_different_patients(store):
    assert choose_slices(store, range(4)) == [1, 3]
    assert choose_slices(store, range(4), most=1) == [1]
    assert choose_slices(store, [2]) == [2]


def test_tables_receipt_and_figures_are_there_for_who_has_no_script(report):
    tags = Page(report.read_text()).tags
    count = {
        name: sum(tag == name for tag, _ in tags)
        for name in ("table", "caption", "h1", "main", "nav", "dt", "noscript")
    }
    assert count["table"] == count["caption"] >= 6
    assert (count["h1"], count["main"], count["nav"], count["noscript"]) == (1, 1, 1, 1)
    assert count["dt"] > 15
    assert all(one.get("alt") for tag, one in tags if tag == "img")
    assert sum(tag == "img" for tag, _ in tags) == 2
    assert {"row", "col"} == {one["scope"] for tag, one in tags if tag == "th"}
    text = report.read_text()
    for key in ("model_sha256", "store_sha256", "seed", "command", "torch", "qdm_med"):
        assert f"<dt>{key}</dt>" in text


def test_markup_in_a_name_stays_text(tmp_path):
    write_report(tmp_path / "r.html", "<b>x</b>", [], [], {"name": "</script><script>alert(1)</script>"})
    text = (tmp_path / "r.html").read_text()
    assert "<b>x</b>" not in text
    assert "alert(1)</script>" not in text


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(tmp_path / "file" / "r.html", "x", [], [], {})


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    with open_in_browser(report, tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@needs_browser
def test_the_browser_asks_nobody_and_complains_of_nothing(browser, report):
    assert_asked_nobody(browser, report)


@needs_browser
def test_the_viewer_works_by_keyboard_and_shows_the_hu(browser, report):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    pictures = {one["name"]: decoded(one["png"]) for one in viewer_data(report)["cases"][0]["pictures"]}
    left, right = pictures["bicubic"], pictures["tiny, 2 steps, s = 0.15"]
    browser.execute_script("document.activeElement.blur()")
    for key, centre, width in (("3", 400, 1800), ("2", 40, 400), ("1", -600, 1500)):
        press(browser, key)
        assert pixel(browser, 20, 10)[0] == pytest.approx(grey(left[20, 10], centre, width), abs=1)
        assert pixel(browser, 20, 50)[0] == pytest.approx(grey(right[20, 50], centre, width), abs=1)
    divider = browser.find_element(By.ID, "split")
    browser.execute_script("arguments[0].focus()", divider)
    press(browser, Keys.HOME)
    assert pixel(browser, 20, 10)[0] == pytest.approx(grey(right[20, 10], -600, 1500), abs=1)
    press(browser, "e")
    difference = right[20, 10] - pictures[TRUTH][20, 10]
    shown = pixel(browser, 20, 10)
    assert shown[0 if difference > 0 else 2] == 255
    assert shown[1] == pytest.approx(255 * (1 - min(1, abs(difference) / 200)), abs=1)
    press(browser, "e", "q", "b")
    caption = browser.find_element(By.ID, "caption").text
    assert "leaves where detail was generated" in caption
    assert "patches differ from the true slice" in caption
    press(browser, "q", "b", Keys.END)
    assert pixel(browser, 20, 10)[0] == pytest.approx(grey(left[20, 10], -600, 1500), abs=1)


@needs_browser
def test_the_uncertainty_map_is_shown_where_there_is_one(browser, report):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.select import Select

    name = "tiny, 2 steps, s = 0.15, mean of 2 samples"
    std = next(decoded(one["std"]) for one in viewer_data(report)["cases"][0]["pictures"] if one["name"] == name)
    browser.execute_script("document.getElementById('split').value = 0; document.activeElement.blur()")
    press(browser, "u")
    assert "One sample: no uncertainty." in browser.find_element(By.ID, "caption").text
    Select(browser.find_element(By.ID, "right")).select_by_visible_text(name)
    browser.find_element(By.ID, "split").click()  # away from the list, whose keys choose entries
    browser.execute_script(
        "const s = document.getElementById('split'); s.value = 0; s.dispatchEvent(new Event('input'))"
    )
    assert "black 0, yellow 100 HU" in browser.find_element(By.ID, "caption").text
    shown = np.array([pixel(browser, row, 40) for row in range(0, 64, 8)])
    np.testing.assert_allclose(shown[:, 0], np.minimum(255, 255 * std[::8, 40] / 100), atol=1)


@needs_browser
def test_tab_reaches_every_control_and_each_has_a_name(browser):
    controls = browser.execute_script(
        "return [...document.querySelectorAll('select, input')].map(e => [e.id || e.name, e.labels.length, e.tabIndex])"
    )
    assert len(controls) >= 14
    assert all(labels == 1 and index == 0 for _, labels, index in controls)
