"""Columns of a benchmark in one table, with their meaning; no other column exists.

To add a metric, compute it in :mod:`qdm_med.evaluation.scoring` and describe it here; a test holds that what is scored and
what is described are the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, get_args

from qdm_med.errors import DataError
from qdm_med.evaluation.limits import Limit
from qdm_med.evaluation.measures.tissues import TISSUES

Group = Literal["network", "hu", "paper", "tissue", "consistency", "fidelity", "uncertainty"]
GROUPS: tuple[Group, ...] = get_args(Group)
"""Tables, in their order."""
GROUP_WORDS: Mapping[Group, str] = MappingProxyType(
    {
        "network": "similarity in the network's range",
        "hu": "similarity in HU",
        "paper": "similarity in the paper's 8-bit window",
        "tissue": "errors by tissue, in HU",
        "consistency": "agreement with the input",
        "fidelity": "fidelity: place, sharpness, noise, shape, invention",
        "uncertainty": "how right the uncertainty is",
    }
)
"""Titles of tables where nothing more is known, of a data range say."""

Sense = Literal["high", "low", "zero", "one", ""]
"""Best value; empty where there is none: facts about the truth, and coverages, which are to be what they claim."""


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
        in_tables: Whether tables show it; what the truth and interpolation have is the same for all methods.
    """

    name: str
    group: Group
    sense: Sense
    digits: int
    words: str
    limit: Limit | None = None
    in_tables: bool = True

    @property
    def arrow(self) -> str:
        """Arrow to where better lies, as tables show it.

        >>> column("mae_hu").arrow, column("mtf50_ratio").arrow
        ('↓', '→ 1')
        """
        return {"high": "↑", "low": "↓", "zero": "→ 0", "one": "→ 1", "": ""}[self.sense]

    def loss(self, value: float) -> float:
        """Distance of a value from the best, in an order of its own; NaN where no value is best."""
        losses = {"high": -value, "low": value, "zero": abs(value), "one": abs(value - 1)}
        return losses.get(self.sense, math.nan)

    def show(self, value: float) -> str:
        """Format a value."""
        return f"{value:.{self.digits}f}"


# CT numbers of water may be off by 4 HU in acceptance tests of scanners (IEC 61223-3-5).
WATER_HU = 4.0
"""Mean HU within this of the truth's are right."""

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
        yield Column(f"{prefix}mae_hu", "tissue", "low", 2, f"mean absolute error of {part} in HU")
        yield Column(f"{prefix}rmse_hu", "tissue", "low", 2, f"root mean square error of {part} in HU")
    yield Column("bias_body_hu", "tissue", "zero", 2, "mean error of the body in HU")
    for tissue in TISSUES:
        part = _plain(tissue.name)
        shifted = Limit(-WATER_HU, WATER_HU, f"HU of {part} are shifted", margin=2.0, share=0.35)
        alarm = shifted if tissue.name in _ALARMING_TISSUES else None
        words = f"mean HU inside {part} less the truth's, borders left out"
        yield Column(f"bias_{tissue.name}_hu", "tissue", "zero", 2, words, alarm)
        yield Column(f"truth_{tissue.name}_hu", "tissue", "", 2, f"mean HU of {part} in the truth", in_tables=False)


def _plain(tissue: str) -> str:
    return tissue.replace("_", " ")


_CONSISTENCY = (
    Column(
        "consistency_mae_hu", "consistency", "low", 2, "mean absolute difference to the input, once degraded as it was"
    ),
    Column("truth_consistency_mae_hu", "consistency", "", 2, "the same of the truth: the input's own noise"),
    Column("consistency_bias_hu", "consistency", "zero", 2, "mean difference to the input, once degraded as it was"),
    Column(
        "consistency_excess_hu",
        "consistency",
        "zero",
        2,
        "the same, less the truth's own",
        # Twice the contract's tolerance for the mean of what the source measured.
        Limit(-4.0, 4.0, "the mean of what the source would have measured drifts", margin=1.0, share=0.2),
    ),
    Column(
        "consistency_smooth_hu",
        "consistency",
        "low",
        2,
        "root mean square of that difference after smoothing over 3 x 3 pixels",
    ),
    Column("area_mae_hu", "consistency", "low", 2, "mean absolute difference of block means to the input"),
)

_FIDELITY = (
    Column(
        "shift_px",
        "fidelity",
        "zero",
        2,
        "displacement against the truth in pixels",
        # Half of half a pixel: the error of mixing up pixel centres and edges at any scale is larger.
        Limit(0.0, 0.25, "the slice is displaced", margin=0.1),
    ),
    Column(
        "mtf50_ratio",
        "fidelity",
        "one",
        2,
        "spatial frequency at which edges keep half their contrast, in units of the truth's",
        Limit(0.8, 1.25, "edges are blunter than interpolation's or sharper than the truth's", margin=0.02),
    ),
    Column(
        "noise_ratio",
        "fidelity",
        "one",
        2,
        "noise of uniform soft tissue in units of the truth's",
        Limit(
            0.8, 1.15, "soft tissue is smoother than interpolation's or noisier than the truth's", margin=0.1, share=0.1
        ),
    ),
    Column("noise_frequency_ratio", "fidelity", "one", 2, "mean frequency of that noise in units of the truth's"),
    Column(
        "lung_dice",
        "fidelity",
        "high",
        4,
        "overlap of lung and airways with the truth's",
        Limit(0.97, 1.0, "lung and airways have another shape", margin=0.02),
    ),
    Column(
        "bone_dice",
        "fidelity",
        "high",
        4,
        "overlap of bone with the truth's",
        Limit(0.9, 1.0, "bone has another shape", margin=0.05),
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
    Column(
        "coverage_95", "uncertainty", "", 4, "share of pixels whose error the samples' spread covers; 0.95 is right"
    ),
    Column("coverage_95_leaves", "uncertainty", "", 4, "the same, where detail was generated"),
    Column("coverage_95_calibrated", "uncertainty", "", 4, "the same, with the model's calibration"),
    *(
        Column(f"coverage_95_{one.name}", "uncertainty", "", 4, f"the same, in {_plain(one.name)} of the body")
        for one in TISSUES
    ),
    Column("sample_std_hu", "uncertainty", "", 2, "mean standard deviation of the samples in HU"),
    Column("calibrated_std_hu", "uncertainty", "", 2, "the same, as the model calibrates it"),
    Column(
        "error_std_correlation",
        "uncertainty",
        "high",
        4,
        "correlation of the absolute error with that standard deviation",
    ),
)

_MEASURED = (
    *_similarity("network", "", "in the network's range"),
    *_similarity("hu", "hu_", "in HU"),
    *_similarity("paper", "paper_", "in the paper's 8-bit window"),
    *_errors_by_tissue(),
    *_CONSISTENCY,
    *_FIDELITY,
    *_UNCERTAINTY,
)


def of_interpolation(name: str) -> str:
    """Column that holds the value of interpolation on the same slice, for those with a limit."""
    return f"interpolated_{name}"


COLUMNS: Mapping[str, Column] = MappingProxyType(
    {
        one.name: one
        for one in (
            *_MEASURED,
            *(
                Column(
                    of_interpolation(one.name),
                    one.group,
                    "",
                    one.digits,
                    f"{one.name} of the input, interpolated",
                    in_tables=False,
                )
                for one in _MEASURED
                if one.limit
            ),
        )
    }
)
"""Every column by its name."""

LIMITED: tuple[Column, ...] = tuple(one for one in COLUMNS.values() if one.limit)
"""Columns that may raise an alarm."""


def alarms(scores: Mapping[str, float]) -> list[Column]:
    """Columns whose limit the scores of a slice break."""
    nan = math.nan
    return [
        one
        for one in LIMITED
        if one.limit and one.limit.broken_by(scores.get(one.name, nan), scores.get(of_interpolation(one.name), nan))
    ]


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


def grouped(names: Iterable[str]) -> dict[Group, list[Column]]:
    """Columns by group, each group in the order of the names; groups without columns are left out.

    Raises:
        DataError: If one of the names is no column.
    """
    columns = [column(name) for name in dict.fromkeys(names)]
    found = {group: [one for one in columns if one.group == group] for group in GROUPS}
    return {group: members for group, members in found.items() if members}
