"""Every constant of both stages of Real-ESRGAN is the one that the documentation states with its source."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest

from qdm_med.data.degradation import second_order_params
from qdm_med.data.degradation.second_order import sample_second_order
from qdm_med.data.degradation.second_order_params import SecondOrderConfig
from qdm_med.errors import ConfigError

PAGE = Path(__file__).resolve().parents[3] / "docs" / "natural.md"


def number(text: str) -> float | str:
    if text.startswith("π"):
        return math.pi / float(text[2:] or 1)
    return float(text) if text[0].isdigit() else text


def documented() -> dict[str, tuple[float | str, ...]]:
    """Constant -> values, of the rows that have a value and a source."""
    section = PAGE.read_text().split("### Every constant of the degradation")[1].split("\n#")[0]
    rows = re.findall(r"^\| `([\w.]+)` \| ([^|]+) \| [^|]*\w[^|]* \|$", section, flags=re.MULTILINE)
    return {name: tuple(number(each.strip()) for each in values.split(",")) for name, values in rows}


def configured(config: object, prefix: str = "") -> Iterator[tuple[str, tuple[object, ...]]]:
    for field in fields(config):
        value = getattr(config, field.name)
        if is_dataclass(value):
            yield from configured(value, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, value if isinstance(value, tuple) else (value,)


def test_the_table_has_every_constant_and_each_has_its_value():
    constants = {name: value for name, value in vars(second_order_params).items() if re.fullmatch(r"[A-Z_]+", name)}
    del constants["SECOND_STAGE"]  # second.*
    found = dict(configured(SecondOrderConfig()))
    found |= {name: value if isinstance(value, tuple) else (value,) for name, value in constants.items()}
    told = documented()
    assert told.keys() == found.keys()
    for name, values in told.items():
        assert len(values) == len(found[name]), name
        for one, other in zip(values, found[name], strict=True):
            assert one == (other if isinstance(other, str) else pytest.approx(other)), name


def test_what_is_drawn_reaches_the_ends_of_the_ranges_and_half_of_the_shapes_lie_below_one():
    drawn = [sample_second_order(SecondOrderConfig(), 4, np.random.default_rng([5, item])) for item in range(6000)]
    blurs = [one.first.blur for one in drawn]
    sincs = [blur for blur in blurs if blur.form == "sinc"]
    for chosen, lowest in (
        ([blur for blur in sincs if blur.size < 13], math.pi / 3),
        ([blur for blur in sincs if blur.size >= 13], math.pi / 5),
        ([one.last_sinc for one in drawn if one.last_sinc], math.pi / 3),
    ):
        cutoffs = [blur.cutoff for blur in chosen]
        assert lowest <= min(cutoffs) < lowest + 0.1
        assert math.pi - 0.1 < max(cutoffs) <= math.pi
    generalised = np.array([blur.beta for blur in blurs if blur.form == "generalised"])
    assert np.mean(generalised < 1) == pytest.approx(0.5, abs=0.06)
    assert (generalised.min(), generalised.max()) == pytest.approx((0.5, 4), abs=0.05)
    plateaus = np.array([blur.beta for blur in blurs if blur.form == "plateau"])
    assert np.mean(plateaus == 1) == pytest.approx(0.5, abs=0.06)
    assert (plateaus.min(), plateaus.max()) == pytest.approx((1, 2), abs=0.05)
    assert {blur.beta for blur in blurs if blur.form == "gaussian"} == {1.0}
    factors = [one.first.resize_factor for one in drawn]
    assert (min(factors), max(factors)) == pytest.approx((0.15, 1.5), abs=0.01)


def test_a_range_of_shapes_without_the_gaussian_is_refused():
    with pytest.raises(ConfigError, match="plateau_beta must contain 1"):
        SecondOrderConfig(plateau_beta=(1.5, 2.0))
