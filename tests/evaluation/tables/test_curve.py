import io
import math

import pytest
from PIL import Image

from qdm_med.evaluation.results import SliceScore
from qdm_med.evaluation.tables.curve import curve_points, curve_table, draw_curve


def rows(column="lpips_squeeze", methods=("bicubic", "ours, 2 steps")):
    found = []
    for scale in (4, 8):
        for patient in "ab":
            for number, method in enumerate(methods):
                values = {"psnr_db": 30.0 + number - scale, "ssim": 0.8, column: 0.05 * scale / (1 + number)}
                found.append(SliceScore(method, scale, patient, patient, 0.5 + number, values))
    return found


def test_a_row_a_method_with_its_share_of_bicubics_distance():
    table = curve_table(curve_points(rows()))
    assert table.head[:3] == ("method", "x4 PSNR dB", "SSIM")
    assert [row[0] for row in table.rows] == ["bicubic", "ours, 2 steps"]
    assert table.rows[1][1] == "27.00 (27.00 to 27.00)"
    assert table.rows[1][3:6] == ("0.1000 (0.1000 to 0.1000)", "0.50", "1.50")
    assert table.rows[1][8] == "0.2000 (0.2000 to 0.2000)"


def test_a_method_of_one_scale_leaves_the_others_cells_empty():
    only_x4 = [row for row in rows() if row.method == "bicubic" or row.scale == 4]
    assert curve_table(curve_points(only_x4)).rows[1][6:] == ("",) * 5


def test_without_bicubic_there_is_nothing_to_relate_to():
    points = curve_points(rows(methods=("ours",)))
    assert all(math.isnan(point.relative_to(points)) for point in points)


def test_without_lpips_there_is_no_curve():
    assert curve_points(rows("psnr_body_db")) == []


def test_the_plot_is_a_picture_with_a_panel_a_scale():
    pytest.importorskip("matplotlib")
    widths = []
    for points in (curve_points(rows()), [one for one in curve_points(rows()) if one.scale == 4]):
        buffer = io.BytesIO()
        draw_curve(points, buffer)
        widths.append(Image.open(buffer).size[0])
    assert widths[0] > widths[1] > 100
