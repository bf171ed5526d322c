"""Where a method leads, and by how much it does not."""

from __future__ import annotations

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.comparison import comparison_table, leads, places


def row(method, patient, psnr, lpips, **cost):
    scores = {"psnr_db": psnr, "lpips_squeeze": lpips}
    return SliceScore(method, 4, patient, f"{patient}-slice", 2.0, scores, cost)


ROWS = [
    *(row("ours, 3 steps", patient, psnr, 0.1, macs=5e9) for patient, psnr in (("a", 30.0), ("b", 34.0))),
    *(row("cnn", patient, psnr, 0.3) for patient, psnr in (("a", 31.0), ("b", 35.5))),
]


def test_the_best_of_each_column_is_found_by_its_sense():
    psnr, lpips = places(ROWS, 4, "ours")
    assert (psnr.best.method, psnr.best.mean) == ("cnn", 33.25)
    assert psnr.difference.mean == -1.25  # the mean of -1.0 and -1.5, patient by patient
    assert lpips.difference is None


def test_the_words_tell_where_it_leads_and_where_not():
    said = leads(ROWS, "ours").splitlines()
    assert said[0] == (
        "x4: ours leads in lpips_squeeze; not in psnr_db (cnn 33.25, ours 32.00, paired -1.25 (-1.50 to -1.00))."
    )
    assert "squared error" in said[-1]
    assert leads(ROWS, "cnn").startswith("x4: cnn leads in psnr_db; not in lpips_squeeze (ours, 3 steps 0.1000")


def test_the_table_has_a_row_a_method_with_the_minutes_of_its_model():
    table = comparison_table(ROWS, {"ours": 60.04})
    assert table.head[:5] == ("scale", "method", "CPU min trained", "s a slice", "GMAC a slice")
    assert table.rows == (
        ("x4", "ours, 3 steps", "60.0", "2.00", "5.0", "32.00 (30.00 to 34.00)", "0.1000 (0.1000 to 0.1000)"),
        ("x4", "cnn", "", "2.00", "", "33.25 (31.00 to 35.50)", "0.3000 (0.3000 to 0.3000)"),
    )
    assert table.title == "Comparison on 2 slices of 2 patients, means over patients (95 %)"
