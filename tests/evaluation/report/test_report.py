"""The report: one file, no network, no patient data; and a browser shows what the numbers say."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from qdm_med.errors import ConfigError
from qdm_med.evaluation.benchmarks import BenchmarkOptions
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.report.page import write_report
from qdm_med.evaluation.report.pictures import INPUT, TRUTH, choose_slices, hu_png
from qdm_med.evaluation.session import evaluate_checkpoint

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def report(store, checkpoint, tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "deep" / "report.html"
    options = BenchmarkOptions("med-sr4", methods=("bicubic", "qdm"), samples=2)
    evaluate_checkpoint(store.path, checkpoint, options, device=torch.device("cpu"), report=path)
    return path


class Page(HTMLParser):
    """Tags with their attributes, in order."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


def viewer_data(report):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', report.read_text())[1])


def test_nothing_in_the_file_asks_for_a_network(report):
    text = report.read_text()
    addresses = [
        value
        for _, attributes in Page(text).tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "poster", "srcset")
    ]
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style
    script = text.rsplit("<script>", 1)[1]
    assert not re.search(r"fetch|XMLHttpRequest|WebSocket|import\(|sendBeacon", script)
    assert set(re.findall(r"https?://[^\s\"']*", text)) <= {"http://www.w3.org/2000/svg"}
    policies = [one["content"] for tag, one in Page(text).tags if one.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0].startswith("default-src 'none'")


def test_images_carry_hu_exactly_and_no_identifier(report, store, checkpoint):
    data = viewer_data(report)
    assert [case["title"].split(",")[0] for case in data["cases"]] == ["slice 1", "slice 3"]
    names = [picture["name"] for picture in data["cases"][0]["pictures"]]
    assert names == [TRUTH, INPUT, "bicubic", "tiny, 2 steps, s = 0.15", "tiny, 2 steps, s = 0.15, mean of 2 samples"]
    case = make_case(store, 1, 4, 0, checkpoint.card.intensity)
    np.testing.assert_array_equal(decoded(data["cases"][0]["pictures"][0]["png"]), case.reference_hu)
    np.testing.assert_array_equal(decoded(data["cases"][0]["pictures"][1]["png"]), np.rint(case.low_hu))
    assert store.records[1].patient not in report.read_text()


def decoded(uri):
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(int)
    return image[..., 0] * 256 + image[..., 1] - 1024


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
    write_report(tmp_path / "r.html", "<b>x</b>", [], [], [], {"name": "</script><script>alert(1)</script>"})
    text = (tmp_path / "r.html").read_text()
    assert "<b>x</b>" not in text
    assert "alert(1)</script>" not in text


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_report(tmp_path / "file" / "r.html", "x", [], [], [], {})


@pytest.fixture(scope="module")
def browser(report, tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    switches = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    switches += "disable-component-update disable-sync window-size=1200,1200"
    for switch in switches.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get(report.as_uri())
    wait = pytest.importorskip("selenium.webdriver.support.wait", reason="selenium is not installed")
    wait.WebDriverWait(driver, 20).until(lambda one: one.execute_script("return document.body.dataset.ready"))
    yield driver
    driver.quit()


needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")


def pixel(browser, row, column):
    script = "return [...document.getElementById('canvas').getContext('2d').getImageData(arguments[1], arguments[0], 1, 1).data]"
    return browser.execute_script(script, row, column)[:3]


def press(browser, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def grey(hu, centre, width):
    return min(255, max(0, 255 * (hu - centre + width / 2) / width))


@needs_browser
def test_the_browser_asks_nobody_and_complains_of_nothing(browser, report):
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in asked
    # The browser's own empty tab, before the report was opened, is no address.
    assert {url for url in asked if not url.startswith(("data:", "chrome:"))} == {report.as_uri()}
    assert browser.get_log("browser") == []


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
