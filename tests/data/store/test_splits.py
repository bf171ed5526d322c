from pathlib import PurePosixPath

import pytest

from qdm_med.data.store.slices import anonymous_key
from qdm_med.data.store.splits import CsvSplit, HashSplit
from qdm_med.errors import DataError


def test_the_hash_rule_gives_about_its_share_and_depends_on_the_patient_only():
    rule = HashSplit(0.2)
    splits = [rule.assign(PurePosixPath("x"), str(number)).split for number in range(2000)]
    assert splits.count("val") / 2000 == pytest.approx(0.2, abs=0.03)
    assert all(rule.assign(PurePosixPath("y"), str(number)).split == splits[number] for number in range(50))


def test_a_larger_fraction_only_adds_patients_to_val():
    few, many = HashSplit(0.1), HashSplit(0.3)
    for number in range(300):
        if few.assign(PurePosixPath("x"), str(number)).split == "val":
            assert many.assign(PurePosixPath("x"), str(number)).split == "val"


def write(path, text: str):
    (path / "split.csv").write_text(text)
    return path / "split.csv"


def test_a_file_is_found_wherever_the_tree_starts(tmp_path):
    rule = CsvSplit(write(tmp_path, "split,file,source\nval,a/1.dcm,atlas\ntrain,b/1.dcm,\n"))
    for place in ("a/1.dcm", "deep/er/a/1.dcm"):
        assert rule.assign(PurePosixPath(place), "p").split == "val"
    assert rule.assign(PurePosixPath("a/1.dcm"), "p").source == "atlas"
    assert rule.assign(PurePosixPath("b/1.dcm"), "p").patient == "p"
    assert rule.assign(PurePosixPath("c/1.dcm"), "p") is None


def test_a_patient_column_places_files_the_list_does_not_name(tmp_path):
    rule = CsvSplit(write(tmp_path, "patient_id,split\nJane,val\nJoe,test\n"))
    assert rule.assign(PurePosixPath("any"), anonymous_key("Joe")).split == "test"
    assert rule.assign(PurePosixPath("any"), anonymous_key("Ann")) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,kind\na,b\n", "needs the columns split and file"),
        ("", "needs the columns split and file"),
        ("file,split\na,holdout\n", "line 2: split 'holdout' is unknown"),
        ("patient_id,split,file\nJane,val,a\nJane,train,b\n", "line 3: its patient is in split val above"),
        ("file,split\na,val\na,train\n", "line 3: its file is in split val above"),
    ],
)
def test_a_list_that_contradicts_itself_is_refused_without_naming_the_patient(tmp_path, text, message):
    with pytest.raises(DataError, match=message) as caught:
        CsvSplit(write(tmp_path, text))
    assert "Jane" not in str(caught.value)


def test_a_missing_list_is_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        CsvSplit(tmp_path / "none.csv")
