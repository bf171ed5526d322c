"""The pages' figures of the clinical benchmark are those of a result's file."""

from __future__ import annotations

from qdm_med.evaluation.clinical.measures import MEASURES
from tools.clinical_figures import MARKED, PAGES, rewritten

RESULT = {
    "headline": "clinical",
    "x4": {
        "opponents": {"bicubic": {"contrast_kept": 0.5, "mtf50_source": 0.25}},
        "methods": {
            "faithful": {
                "held": 1,
                "bars": 2,
                "figures": {"contrast_kept": 0.75, "mtf50_source": 0.125},
                "missed": {"contrast_kept": "it is short"},
            }
        },
        "bars": {
            "contrast_kept": {"sense": "at least", "bar": 0.875},
            "mtf50_source": {"sense": "shown", "bar": None},
        },
    },
}


def test_a_marked_table_is_written_anew_and_nothing_else():
    page = "before\n<!-- clinical: contrast_kept, mtf50_source -->\nold\n<!-- end -->\nafter <!-- end -->\n"
    text = rewritten(page, RESULT)
    assert text.startswith(
        "before\n<!-- clinical: contrast_kept, mtf50_source -->\n|  | x4 bicubic | faithful | bar |\n"
    )
    assert text.endswith("<!-- end -->\nafter <!-- end -->\n")
    kept, source = text.splitlines()[4:6]
    assert kept.endswith("| 0.500 | 0.750 **short** | >= 0.875 |")
    assert source.endswith("| 0.250 | 0.125 |  |")
    assert rewritten(text, RESULT) == text


def test_every_page_names_measures_that_there_are():
    known = {one.name for one in MEASURES} | {"all"}
    for page in PAGES:
        marked = list(MARKED.finditer(page.read_text(encoding="utf-8")))
        assert marked, page.name
        assert {name.strip() for one in marked for name in one["names"].split(",")} <= known, page.name
