"""Mean error in HU of every tissue of an image, as a loss: squares of pixels hardly notice a tissue that is a few HU off."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from qdm_med.evaluation.measures.agreement import SMALLEST_REGION
from qdm_med.evaluation.measures.tissues import TISSUES, Tissue
from qdm_med.intensity import IntensityMap
from qdm_med.training.hu import DifferentiableHu

INTERIOR = 5
"""Side in pixels of the neighbourhood that must be of a tissue as a whole, as in :meth:`Tissue.interior`."""

DENSER_THAN_AIR = Tissue("denser_than_air", TISSUES[0].low, TISSUES[-1].high)
"""Nearly the patient, edges between tissues included: their interiors together are less than half of it."""

LARGE = 0.01
"""Mean error in network units from which its square counts more than its magnitude."""

MOST_OF_THE_BODY_HU = 40.0
"""HU whose network units the mean over the whole patient is told in: muscle and organs."""


class TissueBias:
    """Mean error of the tissues, each in network units of its own HU, as a penalty ``|b| + b^2 / 0.01``.

    The magnitude alone asks for a median over images, and bone that nobody can find again pulls the mean away from it; the
    square alone hardly counts muscle that is 3 HU off.

    The interior of each of the evaluation's tissues counts, no partial volume, and the mean over all that is denser than air:
    a mean that is right in the first only because of a shift of the second is not right.

    Args:
        intensity: HU mapping of the images.
    """

    def __init__(self, intensity: IntensityMap) -> None:
        self._hu = DifferentiableHu(intensity)
        low, high = intensity.hu_range
        self._worth = [
            (tissue, intensity.hu_per_unit((max(tissue.low, low) + min(tissue.high, high)) / 2))
            for tissue in TISSUES
            if tissue.low < high and tissue.high > low
        ]
        self._worth.append((DENSER_THAN_AIR, intensity.hu_per_unit(MOST_OF_THE_BODY_HU)))

    def __call__(self, image: Tensor, reference: Tensor) -> Tensor:
        """Sum over the tissues of an image of the penalty on their mean error; a tissue of fewer than 64 pixels says nothing.

        Args:
            image: ``(B, 1, H, W)`` in the network's range; what lies outside it is moved to its ends.
            reference: What it should be; the tissues are found in it.

        Returns:
            ``(B,)``, without a unit.
        """
        truth = self._hu(reference)
        error = self._hu(image) - truth
        found = torch.zeros(len(image), device=image.device)
        for tissue, worth in self._worth:
            own = (truth >= tissue.low) & (truth <= tissue.high)
            region = (own if tissue is DENSER_THAN_AIR else _interior(own)).flatten(1)
            count = region.sum(dim=1)
            bias = ((error.flatten(1) * region).sum(dim=1) / count.clamp(min=1) / worth).abs()
            found = found + bias * (1 + bias / LARGE) * (count >= SMALLEST_REGION)
        return found


def _interior(own: Tensor) -> Tensor:
    """Pixels whose whole neighbourhood is of the class, ``(B, 1, H, W)`` bool; beyond the border it is not."""
    outside = F.pad((~own).float(), (INTERIOR // 2,) * 4, value=1.0)
    return F.max_pool2d(outside, INTERIOR, stride=1) == 0
