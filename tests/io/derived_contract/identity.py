"""Section 1: a new instance in a new series of the same study."""

from __future__ import annotations

import re

from tests.io.derived_contract.slices import Mutations, Rule, constant, put, put_all
from tests.io.derived_contract.source import SCALE, SOURCE_ROOT, SOURCE_UID


def in_order(pair):
    places = [float(ds.ImagePositionPatient[2]) for ds in pair.series]
    return places == sorted(places) and len(set(places)) == 3


RULES: dict[str, Rule] = {
    "1 new instance": lambda pair: pair.derived.SOPInstanceUID != pair.source.SOPInstanceUID,
    "1 every instance once": lambda pair: len({ds.SOPInstanceUID for ds in pair.series}) == len(pair.series),
    "1 new series": lambda pair: pair.derived.SeriesInstanceUID != pair.source.SeriesInstanceUID,
    "1 one series": constant("SeriesInstanceUID", "SeriesNumber", "SeriesDescription"),
    "1 UIDs of our own root": lambda pair: all(
        re.fullmatch(r"2\.25\.[1-9]\d*", uid) and len(uid) <= 64
        for uid in (pair.derived.SOPInstanceUID, pair.derived.SeriesInstanceUID)
    ),
    "1 free series number": lambda pair: pair.derived.SeriesNumber == 100 * pair.source.SeriesNumber + SCALE,
    "1 description says what it is": lambda pair: (
        pair.derived.SeriesDescription == f"{pair.source.SeriesDescription} SRx{SCALE} AI seed 0"
    ),
    "1 files in the order of places": in_order,
}


def swap_places(series):
    first, last = series[0].ImagePositionPatient, series[2].ImagePositionPatient
    series[0].ImagePositionPatient, series[2].ImagePositionPatient = last, first


MUTATIONS: Mutations = [
    ("1 new instance", put("SOPInstanceUID", SOURCE_UID), "uid.sop_not_reused"),
    ("1 every instance once", lambda s: setattr(s[0], "SOPInstanceUID", s[1].SOPInstanceUID), "uid.sop_unique"),
    ("1 new series", put_all("SeriesInstanceUID", f"{SOURCE_ROOT}.1"), "uid.series_not_reused"),
    ("1 one series", put("SeriesInstanceUID", "2.25.7"), "uid.one_series"),
    ("1 one series", put("SeriesNumber", 7), "series.constant_attributes"),
    ("1 UIDs of our own root", put("SOPInstanceUID", "2.25.007"), "uid.valid_syntax"),
    ("1 UIDs of our own root", put("SOPInstanceUID", "2.25." + "7" * 60), "uid.valid_syntax"),
    ("1 UIDs of our own root", put("SOPInstanceUID", f"{SOURCE_UID}.1"), None),
    ("1 free series number", put_all("SeriesNumber", 1), "series.number"),
    ("1 free series number", put_all("SeriesNumber", None), "series.number"),
    ("1 description says what it is", put_all("SeriesDescription", "Thorax Übersicht"), "series.description"),
    ("1 description says what it is", put_all("SeriesDescription", "x" * 65), "series.description"),
    ("1 files in the order of places", swap_places, "ref.same_plane_as_source"),
]
