"""The constraints files of the continuous tests are what ``pyproject.toml`` allows."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


OF_OTHERS = {"click"}
"""Packages that ours depend on and that the oldest versions of ours need old, too."""


def pinned(name: str) -> dict[str, str]:
    lines = (ROOT / "constraints" / f"{name}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    return {package: version for package, version in pins.items() if package not in OF_OTHERS}


def lower_bounds() -> dict[str, str]:
    found = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    matches = (re.match(r"([A-Za-z0-9_.-]+)>=([\d.]+)", each) for each in found)
    return {match[1]: match[2] for match in matches if match}


def test_the_oldest_versions_are_the_lower_bounds():
    assert {name: version.removesuffix(".*") for name, version in pinned("oldest").items()} == lower_bounds()


def test_the_newest_versions_are_of_the_same_packages_and_not_below_the_bounds():
    newest = pinned("newest")
    assert newest.keys() == lower_bounds().keys()
    for name, bound in lower_bounds().items():
        assert [*map(int, newest[name].split(".")[:2])] >= [*map(int, bound.split(".")[:2])], name
