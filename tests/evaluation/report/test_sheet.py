"""The comparison sheet: right slices, right boxes, right pixels, and boxes that do not serve are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.methods.method import Restored
from qdm_med.evaluation.report.regions import Region, find_region, read_regions, sheet_regions
from qdm_med.evaluation.report.sheet import CAPTION, MARGIN, TILE, draw_sheet, save_sheet
from qdm_med.intensity import HuWindow
from tests.evaluation.phantoms import chest

PITCH = TILE + MARGIN


class Black:
    """A method whose answer is below every window."""

    name = "a method with a name that is much too long to stand below a tile of two hundred and fifty-six pixels"

    def restore(self, low_hu, scale):
        return Restored(np.full([scale * side for side in low_hu.shape], -1000.0, dtype=np.float32))


def tile(sheet, row, column):
    top = MARGIN + row * (PITCH + CAPTION)
    left = MARGIN + column * PITCH
    return np.asarray(sheet)[top : top + TILE, left : left + TILE]


@pytest.fixture(scope="module")
def case(make_truth):
    return make_truth(chest()).case


def test_columns_are_input_methods_and_truth_and_boxes_are_enlarged_without_invention(case):
    region = Region(0, top=64, left=32, height=32, width=32, label="lung", window=HuWindow(-600, 1500))
    sheet = draw_sheet([(case, [region])], [Black(), Black()])
    assert sheet.size == (4 * PITCH + MARGIN, 2 * (PITCH + CAPTION) + MARGIN)
    for column, hu, pixels in ((0, case.low_hu[16:24, 8:16], 8), (3, case.reference_hu[64:96, 32:64], 32)):
        grey = np.rint((np.clip(hu, -1350, 150) + 1350) / 1500 * 255)
        repeated = np.kron(grey, np.ones((TILE // pixels,) * 2))
        assert np.abs(tile(sheet, 1, column)[..., 0] - repeated).max() <= 1
    # -1000 HU in a window from -1350 on: 59 of 255.
    assert (tile(sheet, 1, 1) == 60).all() or (tile(sheet, 1, 1) == 59).all()


def test_the_box_is_drawn_where_it_is_on_images_of_either_grid(case):
    sheet = draw_sheet([(case, [Region(0, 64, 32, 96, 48)])], [Black()])
    for column in range(3):
        coloured = np.argwhere(tile(sheet, 0, column)[..., 2] != tile(sheet, 0, column)[..., 0])
        np.testing.assert_allclose(coloured.min(axis=0), [64, 32], atol=1)  # 256 pixels of a slice, 256 of a tile
        np.testing.assert_allclose(coloured.max(axis=0), [160, 80], atol=1)


def test_a_box_that_is_not_square_keeps_its_shape(case):
    sheet = draw_sheet([(case, [Region(0, 0, 0, 32, 64)])], [])
    assert (tile(sheet, 1, 1)[TILE // 2 :] == 255).all()


def test_every_region_has_its_rows(case):
    sheet = draw_sheet([(case, [Region(0, 0, 0, 8, 8), Region(0, 8, 8, 8, 8)]), (case, [Region(0, 0, 0, 8, 8)])], [])
    assert sheet.height == 3 * (2 * (PITCH + CAPTION) + MARGIN)


def test_the_region_that_is_found_is_where_soft_tissue_has_detail():
    hu = np.full((256, 256), -1000.0, dtype=np.float32)
    hu[40:216, 40:216] = 40.0
    for row in range(100, 116, 4):
        hu[row : row + 2, 150:166] = 140.0  # stripes: the only detail inside
    hu[5:15, 5:15] = np.random.default_rng(0).uniform(-1000, 1000, (10, 10))  # a table, outside the body
    found = find_region(7, hu)
    assert found.index == 7
    assert found.top <= 100 < 114 <= found.top + found.height
    assert found.left <= 150 < 166 <= found.left + found.width


def test_boxes_come_from_a_file_by_the_checksum_of_their_slice(store, tmp_path):
    keys = [record.sha256 for record in store.records]
    file = tmp_path / "boxes.csv"
    file.write_text(
        "slice,top,left,height,width,label,window_centre,window_width\n"
        f"{keys[1][:10]},1,2,30,40,tumour,-600,1500\n{keys[1]},0,0,64,64,,,\n"
    )
    first, second = sheet_regions(store, [0, 1], file)
    assert first == Region(1, 1, 2, 30, 40, "tumour", HuWindow(-600, 1500))
    assert second == Region(1, 0, 0, 64, 64)
    assert [region.index for region in sheet_regions(store, [0, 1, 2], None)] == [1, 2]


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ("{other},0,0,8,8", r"line 2: .* is the checksum of 0 slices of the benchmark"),
        ("{own4},0,0,8,8", "give 8 digits or more"),
        ("{own},60,0,8,8", "line 2: the box leaves its slice of 64 x 64 pixels"),
        ("{own},0,-1,8,8", "the box leaves its slice"),
        ("{own},a,0,8,8", "are whole pixels"),
        ("{own},0,0,8", "are whole pixels"),
    ],
)
def test_boxes_that_do_not_serve_are_named_with_their_line(store, tmp_path, row, named):
    own, other = store.records[0].sha256, store.records[3].sha256
    file = tmp_path / "boxes.csv"
    file.write_text("slice,top,left,height,width\n" + row.format(own=own, own4=own[:4], other=other))
    with pytest.raises(DataError, match=named):
        read_regions(file, store, [0])


def test_a_file_without_the_columns_is_refused(store, tmp_path):
    (tmp_path / "boxes.csv").write_text("slice,x,y\n1,2,3\n")
    with pytest.raises(DataError, match="needs the columns slice, top, left, height, width"):
        read_regions(tmp_path / "boxes.csv", store, [0])


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cannot be written .* give another --sheet"):
        save_sheet(b"", tmp_path / "file" / "sheet.png")


def test_a_sheet_is_the_same_picture_again(case):
    region = replace(Region(0, 0, 0, 16, 16), label="x")
    first, second = (draw_sheet([(case, [region])], [Black()]) for _ in range(2))
    assert isinstance(first, Image.Image)
    assert first.tobytes() == second.tobytes()
