"""What the columns of a benchmark mean: how they are grouped, printed, and which way is better."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

GROUPS = ("network", "hu", "paper", "fidelity")
"""Tables, in their order."""

_ZERO_IS_BEST = ("bias_", "consistency_bias", "consistency_excess", "shift_")
_ONE_IS_BEST = ("mtf50_ratio", "noise_ratio", "noise_frequency_ratio")
_HIGHER_IS_BETTER = ("psnr", "ssim", "ms_ssim", "lung_dice", "bone_dice", "error_std_correlation")
_OF_THE_TRUTH = "truth_"


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: As in ``cases.jsonl``.
        group: One of :data:`GROUPS`.
        digits: Decimals shown.
        best: ``"high"``, ``"low"``, ``"zero"``, ``"one"``, or ``""`` where nothing is better (facts about the truth).
    """

    name: str
    group: str
    digits: int
    best: str

    def show(self, value: float) -> str:
        """Print a value."""
        return f"{value:.{self.digits}f}"


def column(name: str) -> Column:
    """Describe a column by its name.

    >>> column("paper_psnr_db")
    Column(name='paper_psnr_db', group='paper', digits=2, best='high')
    >>> column("bias_bone_hu").best
    'zero'
    """
    group = next((each for each in ("hu", "paper") if name.startswith(f"{each}_")), "")
    plain = name.removeprefix(f"{group}_") if group else name
    if not group:
        group = "network" if plain.startswith(("psnr", "ssim", "ms_ssim", "lpips")) else "fidelity"
        group = "hu" if _is_error_in_hu(plain) else group
    digits = 2 if plain.endswith(("_db", "_hu", "_px", "_ratio")) else 4
    return Column(name, group, digits, _best(plain))


def _is_error_in_hu(plain: str) -> bool:
    """Errors of the slice and of its tissues, which stand beside the network's range, whatever range a headline is in."""
    error = plain.endswith(("mae_hu", "rmse_hu")) and not plain.startswith(("consistency", "area_", _OF_THE_TRUTH))
    return error or plain.startswith("bias_")


def _best(plain: str) -> str:
    if plain.startswith((_OF_THE_TRUTH, "coverage", "sample_std", "calibrated_std")):
        return ""
    if plain.startswith(_HIGHER_IS_BETTER):
        return "high"
    if plain.startswith(_ZERO_IS_BEST):
        return "zero"
    return "one" if plain in _ONE_IS_BEST else "low"


def grouped(names: Iterable[str]) -> dict[str, list[Column]]:
    """Columns by group, each group in the order of the names; groups without columns are left out."""
    columns = [column(name) for name in dict.fromkeys(names)]
    found = {group: [one for one in columns if one.group == group] for group in GROUPS}
    return {group: members for group, members in found.items() if members}
