"""Where a method leads, by how much it does not, and what sets it apart from those ahead."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.comparison import comparison_table, leads
from qdm_med.evaluation.tables.places import places
from qdm_med.evaluation.tables.reasons import TrainingFacts, reasons, share_still_falling


def row(method, patient, psnr, lpips, seconds=2.0, **cost):
    scores = {"psnr_db": psnr, "lpips_squeeze": lpips}
    return SliceScore(method, 4, patient, f"{patient}-slice", seconds, scores, cost)


ROWS = [
    *(row("ours, 3 steps", patient, psnr, 0.1, macs=5e9) for patient, psnr in (("a", 30.0), ("b", 34.0))),
    *(row("cnn", patient, psnr, 0.3, 0.5, macs=1.5e9) for patient, psnr in (("a", 31.0), ("b", 35.5))),
]
FACTS = {
    "ours": TrainingFacts(4_000_000, (4, 8), 60.04, 1200, "downstream 1 + upstream 1", 0.021),
    "cnn": TrainingFacts(125_000, (4,), 59.5, 3000, "mse 1", 0.004),
}


def test_the_best_of_each_column_is_found_by_its_sense():
    psnr, lpips = places(ROWS, 4, "ours")
    assert (psnr.best.method, psnr.best.mean) == ("cnn", 33.25)
    assert psnr.difference.mean == -1.25  # the mean of -1.0 and -1.5, patient by patient
    assert lpips.is_ahead
    assert not psnr.is_ahead
    assert not psnr.is_level


def test_where_other_patients_might_turn_the_order_round_nobody_leads():
    near = [
        replace(one, scores=one.scores | {"psnr_db": psnr})
        for one, psnr in zip(ROWS, (30.0, 36.0, 31.0, 35.5), strict=True)
    ]
    said = leads(near, "ours")
    assert (
        "level with the best, the interval holds 0, in psnr_db (cnn 33.25, ours 33.00, paired -0.25 (-1.00 to +0.50))"
        in said
    )
    assert said.endswith("behind in nothing.")
    assert "ahead" not in reasons(near, FACTS, "ours")


def test_the_words_tell_where_it_leads_and_where_not():
    assert leads(ROWS, "ours") == (
        "x4: ours leads in lpips_squeeze; behind in psnr_db (cnn 33.25, ours 32.00, paired -1.25 (-1.50 to -1.00))."
    )
    assert leads(ROWS, "cnn").startswith("x4: cnn leads in psnr_db; behind in lpips_squeeze (ours, 3 steps 0.1000")


def test_the_reasons_are_what_was_logged_and_counted():
    assert reasons(ROWS, FACTS, "ours").splitlines() == [
        "- x4: cnn is ahead of ours, 3 steps in psnr_db: 0.12 M parameters against 4.00 M; 3000 training steps in 59.5 CPU min "
        "for x4 against 1200 in 60.0 for x4 and x8; loss mse 1 against downstream 1 + upstream 1; 1.5 GMAC a slice against "
        "5.0; 0.50 s a slice against 2.00.",
        "- Processor minutes of training, logged: equal, 59.50 (cnn) to 60.04 (ours).",
        "- Fall of the logged loss from the third to the last quarter of the training: ours +2.1%, cnn +0.4%.",
    ]


def test_other_facts_give_other_reasons():
    fewer = FACTS | {"ours": replace(FACTS["ours"], steps=400, cpu_minutes=20.0)}
    said = reasons(ROWS, fewer, "ours")
    assert "3000 training steps in 59.5 CPU min for x4 against 400 in 20.0 for x4 and x8" in said
    assert "not equal, 20.00 (ours) to 59.50 (cnn)" in said


def test_a_model_that_leads_everywhere_has_nobody_ahead():
    best = [row("ours", patient, 40.0, 0.05) for patient in "ab"] + [row("cnn", patient, 31.0, 0.3) for patient in "ab"]
    assert "ahead" not in reasons(best, FACTS, "ours")


def test_ways_to_run_one_network_that_lead_in_different_columns_are_held_against_each_other():
    mean = [row("ours, mean of 4, 2 steps", patient, psnr, 0.15) for patient, psnr in (("a", 30.5), ("b", 35.0))]
    said = reasons([*ROWS, *mean], FACTS, "ours").splitlines()
    assert said[0].startswith("- x4: cnn is ahead of ours, mean of 4, 2 steps in psnr_db")
    assert said[1] == (
        "- x4: ours, mean of 4, 2 steps against ours, 3 steps, paired: psnr_db +0.75 (+0.50 to +1.00), "
        "lpips_squeeze +0.0500 (+0.0500 to +0.0500)."
    )


def test_what_is_not_trained_here_is_said_to_be_so():
    elsewhere = FACTS | {"cnn": TrainingFacts(16_700_000, (4,))}
    said = reasons(ROWS, elsewhere, "ours")
    assert "16.70 M parameters against 4.00 M; trained elsewhere; 1.5 GMAC" in said
    assert "Processor minutes" not in said
    bicubic = [replace(one, method="bicubic") if one.method == "cnn" else one for one in ROWS]
    assert "bicubic is ahead of ours, 3 steps in psnr_db: it is no network of this comparison; 1.5" in reasons(
        bicubic, FACTS, "ours"
    )
    assert comparison_table(ROWS, elsewhere).rows[1][2:5] == ("trained elsewhere", "", "16.70")


@pytest.mark.parametrize(("losses", "share"), [([4.0, 4.0, 2.0, 1.0], 0.5), ([1.0, 1.0, 1.0], None), ([], None)])
def test_a_loss_still_falls_by_the_means_of_its_last_quarters(losses, share):
    assert share_still_falling(losses) == share


def test_the_table_has_a_row_a_method_with_what_its_model_took():
    table = comparison_table(ROWS, {"ours": FACTS["ours"], "our": FACTS["cnn"]})
    assert table.head[:7] == (
        *("scale", "method", "CPU min trained", "training steps", "M parameters"),
        *("s a slice", "GMAC a slice"),
    )
    our_quality, their_quality = (
        ("32.00 (30.00 to 34.00)", "0.1000 (0.1000 to 0.1000)"),
        ("33.25 (31.00 to 35.50)", "0.3000 (0.3000 to 0.3000)"),
    )
    assert table.rows == (
        ("x4", "ours, 3 steps", "60.0", "1200", "4.00", "2.00", "5.0", *our_quality),
        ("x4", "cnn", "", "", "", "0.50", "1.5", *their_quality),
    )
    assert table.title == "Comparison on 2 slices of 2 patients, means over patients (95 %)"
