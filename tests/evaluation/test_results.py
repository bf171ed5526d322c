"""Rows are kept slice by slice; a killed run goes on with them, another run does not."""

import json
import math

import pytest

from qdm_med.errors import DataError
from qdm_med.evaluation.results import ResultsFolder, SliceScore

RECEIPT = {"methods": 2, "benchmark": "med-sr4", "steps": [1, 2]}


def row(method: str, number: int) -> SliceScore:
    values = {"psnr_db": math.inf, "lung_dice": math.nan, "mae_hu": 1.5}
    return SliceScore(method, 4, "p", str(number), 0.1, values, {"windows": 3.0}, "abc", {"blur": "sinc"})


def test_rows_come_back_as_they_were(tmp_path):
    ResultsFolder(tmp_path, RECEIPT).append([row("a", 0), row("b", 0)])
    done = ResultsFolder(tmp_path, RECEIPT).done
    assert [(one.method, one.sha256) for one in done] == [("a", "0"), ("b", "0")]
    assert repr(done[0]) == repr(row("a", 0))


def test_half_a_line_and_half_a_slice_are_forgotten(tmp_path):
    folder = ResultsFolder(tmp_path, RECEIPT)
    folder.append([row("a", 0), row("b", 0)])
    folder.append([row("a", 1)])
    with (tmp_path / "cases.jsonl").open("a") as file:
        file.write('{"method": "b", "sca')
    again = ResultsFolder(tmp_path, RECEIPT)
    assert [one.sha256 for one in again.done] == ["0", "0"]
    again.append([row("a", 1), row("b", 1)])
    lines = (tmp_path / "cases.jsonl").read_text().splitlines()
    assert [json.loads(line)["sha256"] for line in lines] == ["0", "0", "1", "1"]


def test_other_options_are_refused_by_name(tmp_path):
    ResultsFolder(tmp_path, RECEIPT)
    with pytest.raises(DataError, match=r"was begun with steps \[1, 2\], now it is \[4\]; go on with the same"):
        ResultsFolder(tmp_path, RECEIPT | {"steps": [4]})
    with pytest.raises(DataError, match="was begun with seed None, now it is 1"):
        ResultsFolder(tmp_path, RECEIPT | {"seed": 1})


def test_foreign_and_damaged_files_are_refused(tmp_path):
    (tmp_path / "cases.jsonl").write_text("mine\n")
    with pytest.raises(DataError, match=r"without receipt\.json; give another --out"):
        ResultsFolder(tmp_path, RECEIPT)
    (tmp_path / "receipt.json").write_text(json.dumps(RECEIPT))
    with pytest.raises(DataError, match="line 1 is damaged"):
        ResultsFolder(tmp_path, RECEIPT)
    (tmp_path / "receipt.json").write_text("{")
    with pytest.raises(DataError, match=r"receipt\.json is damaged"):
        ResultsFolder(tmp_path, RECEIPT)
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be made"):
        ResultsFolder(tmp_path / "file", RECEIPT)
