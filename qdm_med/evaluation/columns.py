"""Columns of a benchmark in one table, with their meaning; no other column exists.

To add a metric, compute it in :mod:`qdm_med.evaluation.scoring` and describe it here; a test holds that what is scored and
what is described are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from qdm_med.errors import DataError
from qdm_med.evaluation.measures.tissues import TISSUES

Group = Literal["network", "hu", "paper", "fidelity"]
GROUPS: tuple[Group, ...] = ("network", "hu", "paper", "fidelity")
"""Tables, in their order."""

Sense = Literal["high", "low", "zero", "one", ""]
"""Which value is best; empty where none is: facts about the truth, and coverages, which are to be what they claim."""


@dataclass(frozen=True)
class Limit:
    """The range of a column within which there is no alarm.

    Attributes:
        low: Smallest good value.
        high: Largest good value.
        meaning: Fault that a value beyond it shows.
    """

    low: float
    high: float
    meaning: str

    def broken_by(self, value: float) -> bool:
        """Whether a value raises the alarm; one that could not be measured does not."""
        return math.isfinite(value) and not self.low <= value <= self.high


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: As in ``cases.jsonl``.
        group: The table that it stands in.
        sense: Best value: high, low, zero or one.
        digits: Decimals shown.
        words: Meaning of a value, in a sentence.
        limit: Beyond which it alarms, if it does.
        in_tables: Whether tables show it; mean HU of the truth are for Bland-Altman plots, the same for all methods.
    """

    name: str
    group: Group
    sense: Sense
    digits: int
    words: str
    limit: Limit | None = None
    in_tables: bool = True

    def show(self, value: float) -> str:
        """Format a value."""
        return f"{value:.{self.digits}f}"


# CT numbers of water may be off by 4 HU in acceptance tests of scanners (IEC 61223-3-5).
_WATER_HU = 4.0

_ALARMING_TISSUES = ("lung", "fat", "soft_tissue", "bone")


def _similarity(group: Group, prefix: str, where: str) -> Iterator[Column]:
    """Columns of PSNR, SSIM and their kin in one range."""
    for suffix, part in (("", "of the slice"), ("_body", "within the body")):
        yield Column(f"{prefix}psnr{suffix}_db", group, "high", 2, f"peak signal-to-noise ratio {part}, {where}")
        yield Column(f"{prefix}ssim{suffix}", group, "high", 4, f"structural similarity {part}, {where}")
    yield Column(f"{prefix}ms_ssim", group, "high", 4, f"structural similarity on five scales, {where}")
    if group != "hu":  # LPIPS wants images like photographs
        for net in ("squeeze", "alex"):
            for suffix, part in (("", "of the slice"), ("_body", "within the body")):
                words = f"perceptual distance {part} (LPIPS on {net}), {where}"
                yield Column(f"{prefix}lpips_{net}{suffix}", group, "low", 4, words)


def _errors_by_tissue() -> Iterator[Column]:
    """Columns of errors of slice, body and every tissue class, biases, and mean HU of the truth."""
    for prefix, part in (("", "the slice"), ("body_", "the body"), *((f"{t.name}_", _plain(t.name)) for t in TISSUES)):
        yield Column(f"{prefix}mae_hu", "hu", "low", 2, f"mean absolute error of {part} in HU")
        yield Column(f"{prefix}rmse_hu", "hu", "low", 2, f"root mean square error of {part} in HU")
    yield Column("bias_body_hu", "hu", "zero", 2, "mean error of the body in HU")
    for tissue in TISSUES:
        part = _plain(tissue.name)
        alarm = Limit(-_WATER_HU, _WATER_HU, f"HU of {part} are shifted") if tissue.name in _ALARMING_TISSUES else None
        words = f"mean HU inside {part} less the truth's, borders left out"
        yield Column(f"bias_{tissue.name}_hu", "hu", "zero", 2, words, alarm)
        yield Column(f"truth_{tissue.name}_hu", "fidelity", "", 2, f"mean HU of {part} in the truth", in_tables=False)


def _plain(tissue: str) -> str:
    return tissue.replace("_", " ")


_CONSISTENCY = (
    Column(
        "consistency_mae_hu", "fidelity", "low", 2, "mean absolute difference to the input, once degraded as it was"
    ),
    Column("truth_consistency_mae_hu", "fidelity", "", 2, "the same of the truth: the input's own noise"),
    Column("consistency_bias_hu", "fidelity", "zero", 2, "mean difference to the input, once degraded as it was"),
    Column(
        "consistency_excess_hu",
        "fidelity",
        "zero",
        2,
        "the same, less the truth's own",
        # Twice the contract's tolerance for the mean of what the source measured.
        Limit(-4.0, 4.0, "the mean of what the source would have measured drifts"),
    ),
    Column(
        "consistency_smooth_hu",
        "fidelity",
        "low",
        2,
        "root mean square of that difference after smoothing over 3 x 3 pixels",
    ),
    Column("area_mae_hu", "fidelity", "low", 2, "mean absolute difference of block means to the input"),
)

_FIDELITY = (
    Column(
        "shift_px",
        "fidelity",
        "zero",
        2,
        "displacement against the truth in pixels",
        # Half of half a pixel: the error of mixing up pixel centres and edges at any scale is larger.
        Limit(0.0, 0.25, "the slice is displaced"),
    ),
    Column(
        "mtf50_ratio",
        "fidelity",
        "one",
        2,
        "spatial frequency at which edges keep half their contrast, in units of the truth's",
        Limit(0.8, 1.25, "edges are blunter or sharper than the truth's"),
    ),
    Column(
        "noise_ratio",
        "fidelity",
        "one",
        2,
        "noise of uniform soft tissue in units of the truth's",
        Limit(0.8, 1.15, "soft tissue is smoother or noisier than the truth's"),
    ),
    Column("noise_frequency_ratio", "fidelity", "one", 2, "mean frequency of that noise in units of the truth's"),
    Column(
        "lung_dice",
        "fidelity",
        "high",
        4,
        "overlap of lung and airways with the truth's",
        Limit(0.97, 1.0, "lung and airways have another shape"),
    ),
    Column(
        "bone_dice",
        "fidelity",
        "high",
        4,
        "overlap of bone with the truth's",
        Limit(0.9, 1.0, "bone has another shape"),
    ),
    Column("hallucinated_patches", "fidelity", "low", 4, "patches that show something else than the truth"),
    Column("hallucinated_share", "fidelity", "low", 4, "their share of the patches of the body"),
    Column(
        "unsupported_patches",
        "fidelity",
        "low",
        4,
        "those of them whose input, interpolated, comes much closer to the truth",
        # One is enough: interpolation of the input, which invents nothing, has none by definition.
        Limit(0.0, 0.0, "patches show something else than truth and input"),
    ),
)

_UNCERTAINTY = (
    Column("coverage_95", "fidelity", "", 4, "share of pixels whose error the samples' spread covers; 0.95 is right"),
    Column("coverage_95_leaves", "fidelity", "", 4, "the same, where detail was generated"),
    Column("coverage_95_calibrated", "fidelity", "", 4, "the same, with the model's calibration"),
    *(
        Column(f"coverage_95_{one.name}", "fidelity", "", 4, f"the same, in {_plain(one.name)} of the body")
        for one in TISSUES
    ),
    Column("sample_std_hu", "fidelity", "", 2, "mean standard deviation of the samples in HU"),
    Column("calibrated_std_hu", "fidelity", "", 2, "the same, as the model calibrates it"),
    Column(
        "error_std_correlation", "fidelity", "high", 4, "correlation of the absolute error with that standard deviation"
    ),
)

COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        one.name: one
        for one in (
            *_similarity("network", "", "in the network's range"),
            *_similarity("hu", "hu_", "in HU"),
            *_similarity("paper", "paper_", "in the paper's 8-bit window"),
            *_errors_by_tissue(),
            *_CONSISTENCY,
            *_FIDELITY,
            *_UNCERTAINTY,
        )
    }
)
"""Every column by its name."""


def column(name: str) -> Column:
    """Look a column up.

    >>> column("paper_psnr_db").sense
    'high'

    Raises:
        DataError: If there is no such column.
    """
    if name not in COLUMNS:
        raise DataError(
            f"column {name!r} is unknown to this version of qdm-med; score the benchmark again with another --out"
        )
    return COLUMNS[name]


def grouped(names: Iterable[str]) -> dict[str, list[Column]]:
    """Columns by group, each group in the order of the names; groups without columns are left out.

    Raises:
        DataError: If one of the names is no column.
    """
    columns = [column(name) for name in dict.fromkeys(names)]
    found = {group: [one for one in columns if one.group == group] for group in GROUPS}
    return {group: members for group, members in found.items() if members}
