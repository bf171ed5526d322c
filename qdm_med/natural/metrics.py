"""Metrics of a super-resolved photograph, by the conventions of the field.

PSNR and SSIM on Y of BT.601, LPIPS in RGB; without a reference BRISQUE, with the extra of that name, and CLIPIQA and MUSIQ of
IQA-PyTorch, if the user has installed it. IQA-PyTorch is licensed for non-commercial use only, so it is no dependency, and
nothing of it is in here.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import psnr, ssim
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.natural.brisque import read_brisque

Y_RANGE = 255.0
"""Data range of PSNR and SSIM on Y, as the field takes it, although Y itself lies in [16, 235]."""

_Y_WEIGHTS = (65.481, 128.553, 24.966)
"""Weights of R, G and B in [0, 1] (ITU-R BT.601, studio range), as MATLAB's ``rgb2ycbcr`` has them."""

IQA_PYTORCH = ("clipiqa", "musiq")
"""Measures without a reference, by their names in IQA-PyTorch."""

BRISQUE = "brisque"

HOW_TO_IQA_PYTORCH = (
    "CLIPIQA and MUSIQ are measured where IQA-PyTorch is installed: `pip install pyiqa`, whose licence is non-commercial and "
    "which downloads weights when first used"
)
HOW_TO_BRISQUE = "BRISQUE is measured where its extra is installed: `pip install 'qdm-med[brisque]'`"

Blind = Callable[[Tensor], Tensor]
"""``(1, 3, H, W)`` in [0, 1] -> a number."""


@dataclass(frozen=True)
class Measure:
    """A column of the table.

    Attributes:
        name: Its title.
        best: Direction of better values.
        digits: Digits behind the point.
    """

    name: str
    best: Literal["high", "low"]
    digits: int


MEASURES = (
    Measure("psnr_y", "high", 2),
    Measure("ssim_y", "high", 4),
    Measure("lpips_squeeze", "low", 4),
    Measure("lpips_alex", "low", 4),
    Measure("clipiqa", "high", 4),
    Measure("musiq", "high", 2),
    Measure("brisque", "low", 2),
)
"""All that may be scored, in the order of the columns."""


def eight_bit(image: Tensor) -> Tensor:
    """Round ``[-1, 1]`` to the 256 levels of a stored photograph, still in [-1, 1]."""
    return ((image.clamp(-1, 1) + 1) * 127.5).round() / 127.5 - 1


def luma(image: Tensor) -> Tensor:
    """Compute Y of ``(B, 3, H, W)`` in [-1, 1]: ``(B, 1, H, W)`` in [16, 235].

    >>> white = torch.ones(1, 3, 1, 1)
    >>> round(float(luma(white)), 3), round(float(luma(-white)), 3)
    (235.0, 16.0)
    """
    weights = torch.tensor(_Y_WEIGHTS, dtype=torch.float64, device=image.device)
    unit = (image.double() + 1) / 2
    return 16 + torch.einsum("c,bchw->bhw", weights, unit)[:, None]


class Scorer:
    """All measures of an answer that can be taken here.

    Args:
        perceptual: LPIPS, if there is one.
        blind: Measures without a reference by name, from :func:`read_blind`.
        device: Device of LPIPS and of the blind measures.
    """

    def __init__(self, perceptual: Lpips | None, blind: Mapping[str, Blind], *, device: torch.device) -> None:
        self._perceptual, self._blind, self._device = perceptual, blind, device

    @torch.no_grad()
    def __call__(self, answer: Tensor, reference: Tensor | None) -> dict[str, float]:
        """Score ``(1, 3, H, W)`` in [-1, 1], both rounded to 8 bits first."""
        answer = eight_bit(answer)
        found: dict[str, float] = {}
        if reference is not None:
            reference = eight_bit(reference)
            found["psnr_y"] = float(psnr(luma(answer), luma(reference), Y_RANGE))
            found["ssim_y"] = float(ssim(luma(answer), luma(reference), Y_RANGE))
            if self._perceptual is not None:
                distance = self._perceptual(answer.to(self._device), reference.to(self._device))
                found[self._perceptual.column] = float(distance)
        unit = ((answer + 1) / 2).to(self._device)
        return found | {name: float(measure(unit)) for name, measure in self._blind.items()}


def how_to_blind(found: Mapping[str, Blind]) -> str:
    """Instructions to install the measures that are not in ``found``; empty if none is missing."""
    missing = ((IQA_PYTORCH[0], HOW_TO_IQA_PYTORCH), (BRISQUE, HOW_TO_BRISQUE))
    return " ".join(f"{how}." for name, how in missing if name not in found)


def read_blind(device: torch.device, names: Sequence[str] = IQA_PYTORCH) -> dict[str, Blind]:
    """Load the measures without a reference, if IQA-PyTorch is installed; else none.

    Args:
        device: Device of IQA-PyTorch's measures; BRISQUE runs on the CPU.
        names: Measures of IQA-PyTorch.

    Raises:
        ConfigError: If one cannot be made, for example because its weights are not there.
    """
    made: dict[str, Blind] = {}
    if (brisque := read_brisque()) is not None:
        made[BRISQUE] = brisque
    try:
        library = importlib.import_module("pyiqa")
    except ImportError:
        return made
    for name in names:
        try:
            made[name] = library.create_metric(name, device=device)
        except Exception as error:  # whatever a library that is not ours may raise
            reason = " ".join(str(error).split())[:160]
            raise ConfigError(
                f"{name} of IQA-PyTorch cannot be made ({reason}); get its weights or remove pyiqa"
            ) from None
    return made
