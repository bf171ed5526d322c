"""Reports as tests read them: their tags, their images, and a real browser that shows them."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from contextlib import contextmanager
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")

needs_browser = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")


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


def decoded(uri):
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1])))).astype(int)
    return image[..., 0] * 256 + image[..., 1] - 1024


def assert_asks_for_nothing(report):
    """Nothing in a report refers to anything outside it."""
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


@contextmanager
def open_in_browser(report, profile):
    """Open a report in a headless Chromium and wait until its images are shown."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    switches = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking "
    switches += "disable-component-update disable-sync window-size=1200,1200"
    for switch in switches.split():
        options.add_argument(f"--{switch}")
    options.add_argument(f"--user-data-dir={profile}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get(report.as_uri())
    wait = pytest.importorskip("selenium.webdriver.support.wait", reason="selenium is not installed")
    wait.WebDriverWait(driver, 20).until(lambda one: one.execute_script("return document.body.dataset.ready"))
    try:
        yield driver
    finally:
        driver.quit()


def assert_asked_nobody(browser, report):
    """The report itself is all that was ever asked for, and the console is silent."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    assert report.as_uri() in asked
    # The browser's own empty tab, before the report was opened, is no address.
    assert {url for url in asked if not url.startswith(("data:", "chrome:"))} == {report.as_uri()}
    assert browser.get_log("browser") == []


def pixel(browser, row, column):
    script = "return [...document.getElementById('canvas').getContext('2d').getImageData(arguments[1], arguments[0], 1, 1).data]"
    return browser.execute_script(script, row, column)[:3]


def press(browser, *keys):
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def grey(hu, centre, width):
    return min(255, max(0, 255 * (hu - centre + width / 2) / width))
