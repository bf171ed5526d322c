"""All series under a tree, told apart and in one order; what is refused is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from qdm_med.errors import SeriesError
from qdm_med.io.find import chosen_series, find_series
from qdm_med.io.read import read_volume
from tests.io.nifti_files import save, values


@pytest.fixture
def tree(phantom, magnify, tmp_path):
    """Two patients' series, one in two folders, a volume file, a result of ours, a localizer and junk."""
    phantom("tree/b/ct", series=7).write()
    folder = phantom("tree/a/ct", series=3, slices=4).write(
        lambda ds, index: setattr(ds, "SeriesDescription", "Lung 1.0")
    )
    first = min(folder.iterdir())
    (folder / "more").mkdir()
    first.rename(folder / "more" / "slice")
    phantom("tree/a/scout", series=4).write(lambda ds, index: setattr(ds, "ImageType", ["ORIGINAL", "P", "LOCALIZER"]))
    phantom("tree/c", series=9).write(lambda ds, index: delattr(ds, "RescaleSlope"))
    magnify(tmp_path / "tree" / "b" / "ct", tmp_path / "tree" / "ours")
    save(tmp_path / "tree" / "head.nii.gz", values())
    (tmp_path / "tree" / "notes.txt").write_text("junk")
    (tmp_path / "tree" / "cut").write_bytes(bytes(128) + b"DICM")
    return tmp_path / "tree"


def test_every_series_of_a_tree_is_found_once_and_can_be_read_where_it_is_said_to_be(tree):
    found = list(find_series(tree))
    places = [str(each.path.relative_to(tree)) for each in found]
    assert places == ["a/ct", "b/ct", "c", "head.nii.gz", "ours", "."]
    assert [each.slices for each in found] == [4, 3, 3, 0, 3, 0]
    assert [bool(each.refused) for each in found] == [False, False, True, False, True, True]
    assert "RescaleSlope" in found[2].refused[0]
    assert found[4].made_by_us
    assert "cut" in found[5].refused[0]
    for each in found[:2]:
        volume = read_volume(each.path, series_uid=each.series_uid)
        assert len(volume) == each.slices
        assert np.isfinite(volume.hu).all()


def test_series_are_chosen_by_number_description_and_uid(tree):
    found = list(find_series(tree))
    assert [each.number for each in chosen_series(found, number=7)] == [7]
    assert [each.number for each in chosen_series(found, description="lung")] == [3]
    assert [each.number for each in chosen_series(found, uid=found[0].series_uid)] == [3]
    assert chosen_series(found, number=3, description="nothing like it") == []


def test_what_is_excluded_is_not_found(tree):
    assert all(each.number != 7 for each in find_series(tree, exclude=[tree / "b", tree / "ours"]))


def test_nothing_there_is_an_error(tmp_path):
    with pytest.raises(SeriesError, match="absent"):
        list(find_series(tmp_path / "absent"))


def test_another_rescale_type_is_no_reason_where_the_user_says_that_values_are_hu(phantom, tmp_path):
    phantom("tree/ct", series=7).write(lambda ds, index: setattr(ds, "RescaleType", "US"))
    (found,) = find_series(tmp_path / "tree")
    assert "RescaleType US" in found.refused[0]
    (found,) = find_series(tmp_path / "tree", rescale_type_is_hu=True)
    assert found.refused == ()
