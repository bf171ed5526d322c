"""Mean error in HU of every tissue of an image, as a loss: squares of pixels hardly notice a tissue that is a few HU off."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.evaluation.measures.agreement import SMALLEST_REGION
from qdm_med.evaluation.measures.tissues import TISSUES, Tissue
from qdm_med.intensity import IntensityMap
from qdm_med.training.hu import DifferentiableHu

EROSIONS = 2
"""Steps from the border of a tissue at which its interior begins, as in :meth:`Tissue.interior`."""

DENSER_THAN_AIR = Tissue("denser_than_air", TISSUES[0].low, TISSUES[-1].high)
"""Nearly the patient, edges between tissues included: the interiors of all tissues together are less than half of it."""

MOST_OF_THE_BODY_HU = 40.0
"""HU whose network units the mean over the whole patient is told in: muscle and organs."""

LARGE = 0.01
"""Mean error in network units from which its square counts more than its magnitude."""


class TissueBias:
    """Mean error of the tissues as a penalty ``|b| + b^2 / 0.01``.

    ``b`` is told in network units as they are at the middle of a tissue's range, so that 3 HU in muscle count like 50 HU in
    bone where the mapping is that much coarser. The magnitude alone would ask for a median over images, and the mean error of
    bone is that of a few images with bone too thin to be found; the square alone would hardly count muscle that is 3 HU off.

    The interior of each of the evaluation's tissues counts, where there is no partial volume, and beside it the mean over all
    that is denser than air, edges between tissues included. Pixels at the ends of the mapping are left out: what is beyond a
    window was clipped to its end, and is no tissue.

    Args:
        intensity: HU mapping of the images.
    """

    def __init__(self, intensity: IntensityMap) -> None:
        self._hu = DifferentiableHu(intensity)
        self._low, self._high = intensity.hu_range
        self._judged: list[tuple[Tissue, Callable[[Tensor], Tensor], float]] = [
            (tissue, _interior, intensity.hu_per_unit((max(tissue.low, self._low) + min(tissue.high, self._high)) / 2))
            for tissue in TISSUES
            if tissue.low < self._high and tissue.high > self._low
        ]
        self._judged.append((DENSER_THAN_AIR, _whole, intensity.hu_per_unit(MOST_OF_THE_BODY_HU)))

    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Sum over the tissues of an image of the penalty on their mean error.

        A tissue whose region has fewer than :data:`SMALLEST_REGION` pixels says nothing.

        Args:
            image: ``(B, 1, H, W)`` in the network's range; what lies outside it is moved to its ends.
            reference: What it should be; the tissues are found in it.

        Returns:
            ``(B,)``, without a unit.
        """
        truth = self._hu(reference)
        error = (self._hu(image) - truth).flatten(1)
        known = (truth > self._low) & (truth < self._high)
        found = torch.zeros(len(image), device=image.device)
        for tissue, region_of, worth in self._judged:
            region = region_of(known & (truth >= tissue.low) & (truth <= tissue.high)).flatten(1)
            count = region.sum(dim=1)
            bias = ((error * region).sum(dim=1) / count.clamp(min=1) / worth).abs()
            found = found + bias * (1 + bias / LARGE) * (count >= SMALLEST_REGION)
        return found


def _whole(own: Tensor) -> Tensor:
    return own


def _interior(own: Tensor) -> Tensor:
    """Pixels from which no step or two along rows and columns leave the class, ``(B, 1, H, W)`` bool; beyond the border all do."""
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 0.0]], device=own.device)[None, None]
    outside = ~own
    for _ in range(EROSIONS):
        outside = F.conv2d(F.pad(outside.float(), (1, 1, 1, 1), value=1.0), cross) > 0.5
    return ~outside
