"""Configurations: whole, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

from qdm_med.errors import ConfigError
from qdm_med.intensity import CompandedRange, HuWindow
from qdm_med.serialise import from_mapping, to_mapping


@dataclass(frozen=True)
class Inner:
    sides: tuple[int, ...] = (1, 2)
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Named:
    side: int = 1

    kind: ClassVar[str] = "named"


@dataclass(frozen=True)
class Outer:
    name: str
    rate: float = 1.0
    inner: Inner | None = None
    intensity: HuWindow | CompandedRange = field(default_factory=CompandedRange)
    shape: Inner | Named | None = None
    named: Named | None = None


@pytest.mark.parametrize(
    "record",
    [
        Outer("x"),
        Outer("y", 2.5, Inner((3,), "b"), HuWindow(0.0, 100.0)),
        Outer("s", shape=Inner()),
        Outer("t", shape=Named(3)),
        Outer("u", named=Named(4)),
        Outer("z", intensity=CompandedRange((-1000.0, 0.0, 1000.0), (-1.0, 0.5, 1.0))),
    ],
)
def test_a_record_survives_the_way_there_and_back(record):
    assert from_mapping(Outer, to_mapping(record)) == record


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"name": "x", "rat": 1}, "unknown rat; known: inner, intensity, name, named, rate, shape"),
        ({"name": "x", "rate": "fast"}, "rate: must be a number, got 'fast'"),
        ({"name": 3}, "name: must be of type str"),
        ({"name": "x", "rate": True}, "rate"),
        ({"name": "x", "inner": {"sides": [1.5]}}, "inner.sides: must be a whole number"),
        ({"name": "x", "inner": {"mode": "c"}}, "inner.mode: must be one of a, b"),
        ({"name": "x", "inner": 7}, "inner: expected a mapping"),
        ({"name": "x", "intensity": {"kind": "other"}}, "intensity.kind: must be one of companded, window"),
        ({"name": "x", "shape": {"kind": "other"}}, "shape.kind: must be one of named, got 'other'"),
        ({"name": "x", "shape": {"side": 1}}, "shape: unknown side; known: mode, sides"),
        ({"name": "x", "named": {"kind": "other"}}, "named: unknown kind"),
        ({"name": "x", "inner": {"kind": None}}, "inner: unknown kind"),
        ({}, "name"),
    ],
)
def test_what_is_misspelt_or_mistyped_is_refused_by_name(values, said):
    with pytest.raises(ConfigError) as refused:
        from_mapping(Outer, values)
    assert said in str(refused.value)


def test_a_mapping_that_names_no_kind_is_the_record_that_has_none():
    assert to_mapping(Outer("x", shape=Inner()))["shape"] == {"sides": [1, 2], "mode": "a"}
    assert from_mapping(Outer, {"name": "x", "shape": {"mode": "b"}}).shape == Inner(mode="b")
