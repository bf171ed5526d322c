"""Links lead somewhere, paths exist, the README is short, and what is counted elsewhere is told as it is."""

from __future__ import annotations

import re

import pytest
import yaml

from tests.docs.pages import PAGES, ROOT, anchors, links, named_paths
from tests.test_architecture import LAYERS

README_BYTES = 7 * 1024


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(file), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_is_named_exists(page):
    assert [path for path in sorted(named_paths(page)) if not (ROOT / path).exists()] == []


def test_links_and_paths_are_found_at_all():
    assert "docs/use.md" in links(ROOT / "README.md")
    assert "configs/qdm_c.yaml" in named_paths(ROOT / "docs" / "architecture.md")
    assert "words" in anchors(ROOT / "docs" / "index.md")


def test_the_readme_is_read_in_one_sitting():
    assert len((ROOT / "README.md").read_bytes()) <= README_BYTES


def test_the_readme_leads_to_every_page():
    mapped = {target for target in links(ROOT / "README.md") if target.startswith("docs/")}
    pages = {f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")} - {"docs/index.md"}
    assert pages <= mapped


def test_the_site_has_every_page():
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = [name for entry in nav for name in entry.values()]
    assert sorted(listed) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))


def test_the_layers_are_told_as_they_are_tested():
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    told = re.search(r"<!-- layers -->(.*?)<!-- end -->", page, re.DOTALL)
    assert told is not None
    assert [names.split(", ") for names in re.findall(r"`([^`]+)`", told[1])] == LAYERS


@pytest.mark.parametrize("word", ["leaf", "window", "active", "threshold", "tile", "latent", "upstream", "downstream"])
def test_the_words_of_the_field_are_explained(word):
    defined = re.findall(r"^\*\*([^\n]+)\n:   ", (ROOT / "docs" / "index.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert any(word in term.lower() for term in defined), f"{word} is not among the words of docs/index.md"


def test_the_place_for_the_picture_of_the_clinical_model_is_closed():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.findall(r"<!-- clinical figures -->.*?<!-- end -->", text, re.DOTALL)) == 1


def test_the_citation_has_what_the_format_requires_and_the_version_of_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license", "references"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert all("name" in author or "family-names" in author for author in citation["authors"])
    assert citation["license"] == "Apache-2.0"
    assert f'"{citation["version"]}"' in (ROOT / "qdm_med" / "_version.py").read_text(encoding="utf-8")
    paper = citation["references"][0]
    assert {"type", "title", "authors", "year", "url"} <= paper.keys()
