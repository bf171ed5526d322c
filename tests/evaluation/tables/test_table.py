from dataclasses import replace

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.table import alarm_table, cost_table, difference_table, published_table, result_tables


def rows():
    found = []
    for number, patient in enumerate("aab"):
        for method, gain in (("bicubic", 0.0), ("ours", 1.0)):
            values = {"psnr_db": 30.0 + number + gain, "paper_ssim": 0.5 + gain / 10, "bias_bone_hu": 10 * gain}
            values |= {"truth_bone_hu": 500.0, "lung_dice": float("nan")}
            cost = {"windows": 16.0, "windows_in_all": 64.0, "leaf_density": 0.125} if gain else {}
            found.append(SliceScore(method, 8, patient, str(number), 0.25, values, cost))
    return found


def test_a_table_a_group_a_measure_a_row_a_method_a_column():
    network, paper, tissue, fidelity = result_tables(rows(), {"network": "network, data range 2"})
    lines = network.markdown().splitlines()
    assert lines[0] == "network, data range 2"
    assert lines[2:4] == ["| mean over patients (95 %) | bicubic | ours |", "| --- | --- | --- |"]
    assert lines[4] == "| psnr_db ↑ | 31.25 (30.50 to 32.00) | **32.25 (31.50 to 33.00)** |"
    assert paper.rows == (("paper_ssim ↑", "0.5000 (0.5000 to 0.5000)", "0.6000 (0.6000 to 0.6000)"),)
    assert (tissue.title, [row[0] for row in tissue.rows]) == ("errors by tissue, in HU", ["bias_bone_hu → 0"])
    assert [row[0] for row in fidelity.rows] == ["lung_dice ↑"]
    assert fidelity.rows[0][1:] == ("n/a", "n/a")
    assert [table.terms for table in (paper, tissue)] == [("paper_ssim",), ("bias_bone_hu",)]


def test_the_best_of_a_row_is_marked_by_its_sense_and_equals_are_marked_together():
    def score(method, **values):
        return SliceScore(method, 4, "a", "0", 0.1, values)

    found = result_tables(
        [
            score(
                "first", psnr_db=30.001, mae_hu=5.0, bias_bone_hu=-1.0, mtf50_ratio=0.9, truth_bone_hu=1.0, shift_px=0.1
            ),
            score(
                "second", psnr_db=30.002, mae_hu=7.0, bias_bone_hu=2.0, mtf50_ratio=1.2, truth_bone_hu=1.0, shift_px=0.1
            ),
            score(
                "third",
                psnr_db=29.0,
                mae_hu=5.0,
                bias_bone_hu=3.0,
                mtf50_ratio=float("nan"),
                coverage_95=0.9,
                shift_px=0.1,
            ),
        ],
        {},
    )
    best = {
        table.terms[row]: {place for at, place in table.best if at == row}
        for table in found
        for row in range(len(table.rows))
    }
    assert best == {
        "psnr_db": {1, 2},  # 30.00 both, as it is shown
        "mae_hu": {1, 3},
        "bias_bone_hu": {1},
        "mtf50_ratio": {1},
        "shift_px": set(),  # all the same
        "coverage_95": set(),  # 0.95 is right, not 1
    }


def test_differences_have_signs_and_only_measures_with_a_better_end():
    table = difference_table(rows(), "bicubic")
    assert table.head[1:] == ("ours",)
    assert table.rows[0] == ("psnr_db ↑", "+1.00 (+1.00 to +1.00)")
    assert table.terms == ("psnr_db", "paper_ssim", "lung_dice")
    assert not table.best


def test_alarms_are_counted_among_slices_that_could_be_measured():
    counted = {row[0].split("(")[1].split()[0]: row[1:] for row in alarm_table(rows()).rows}
    assert counted["bias_bone_hu"] == ("0 of 3", "3 of 3")
    assert counted["lung_dice"] == ("0 of 0", "0 of 0")


def test_what_interpolation_does_to_a_slice_as_well_is_no_alarm():
    worse = [replace(row, scores={**row.scores, "interpolated_bias_bone_hu": 12.0}) for row in rows()]
    assert next(row for row in alarm_table(worse).rows if "bone_hu" in row[0])[1:] == ("0 of 3", "0 of 3")
    other_way = [replace(row, scores={**row.scores, "interpolated_bias_bone_hu": -12.0}) for row in rows()]
    assert next(row for row in alarm_table(other_way).rows if "bone_hu" in row[0])[1:] == ("0 of 3", "3 of 3")


def test_cost_is_empty_where_a_method_knows_none():
    assert cost_table(rows()).rows == (("bicubic", "0.25", "", "", "", ""), ("ours", "0.25", "12.5%", "25.0%", "", ""))


def test_published_figures_are_marked_as_published():
    table = published_table("med-sr8")
    assert table.rows[0] == ("QDM-L (published)", "33.05", "0.9743", "0.0159")
    assert all(row[0].endswith("(published)") for row in table.rows)
    assert "not measured here" in table.title
    assert published_table("med-sr4") is None
