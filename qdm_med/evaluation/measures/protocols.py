"""Ranges in which images are compared, side by side: no figure without its data range.

* ``network``: the model's own range [-1, 1].
* ``hu``: HU, from the lowest to the highest that truth and input can have: the 12-bit CT range, unless they were clipped.
* ``paper``: 8-bit grey levels of one display window, the protocol of QDM (arXiv 2503.12015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from qdm_med.evaluation.measures.metrics import masked_mean, ms_ssim, psnr, ssim_map
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.intensity import HU_MAX, HU_MIN, HuWindow, IntensityMap
from qdm_med.volume import BoolArray, FloatArray

PAPER_WINDOW = HuWindow()
"""Centre 40, width 400."""


@dataclass(frozen=True)
class Protocol:
    """A range in which images are compared.

    Attributes:
        name: ``"network"``, ``"hu"`` or ``"paper"``.
        prefix: Prefix of its columns' names.
        data_range: Width of the range.
        words: Description of the range for people.
        perceptual: Whether LPIPS is taken, which wants images like photographs.
        convert: HU of any shape to the range, values beyond it clipped.
    """

    name: str
    prefix: str
    data_range: float
    words: str
    perceptual: bool
    convert: Callable[[FloatArray], FloatArray]


FULL_RANGE_HU = (HU_MIN, HU_MAX)
"""HU that truth and input can have where nothing has clipped them."""


def network_protocol(intensity: IntensityMap, degraded_in: IntensityMap | None = None) -> Protocol:
    """Range of a model's network, whatever part of it truth and input were clipped to."""
    low, high = intensity.hu_range
    words = f"network range [-1, 1] ({intensity.kind}, {low:g} to {high:g} HU), data range 2"
    if degraded_in is not None and degraded_in.hu_range != (low, high):
        clipped = degraded_in.hu_range
        words = f"{words}; truth and input were clipped to {clipped[0]:g} to {clipped[1]:g} HU"
    return Protocol("network", "", 2.0, words, True, intensity.to_unit)


def hu_protocol(hu_range: tuple[float, float] = FULL_RANGE_HU) -> Protocol:
    """HU in the range that truth and input really have: another data range is another PSNR."""
    low, high = hu_range
    words = f"HU, clipped to {low:g} to {high:g}, data range {high - low:g}"
    return Protocol("hu", "hu_", high - low, words, False, lambda hu: np.clip(hu, low, high))


PAPER_PROTOCOL = Protocol(
    "paper",
    "paper_",
    255.0,
    f"paper: window {PAPER_WINDOW.hu_range[0]:g} to {PAPER_WINDOW.hu_range[1]:g} HU in 8 bits, data range 255",
    True,
    lambda hu: np.rint((PAPER_WINDOW.to_unit(hu) + 1.0) * 127.5),
)


def protocols(intensity: IntensityMap, degraded_in: IntensityMap | None = None) -> tuple[Protocol, ...]:
    """Every range in which a benchmark compares images.

    Args:
        intensity: The model's mapping.
        degraded_in: The mapping in whose range slices were degraded and the truth clipped; the model's unless given.
    """
    clipped_to = (degraded_in or intensity).hu_range
    return network_protocol(intensity, degraded_in), hu_protocol(clipped_to), PAPER_PROTOCOL


def score_in(
    protocol: Protocol, hu: FloatArray, reference_hu: FloatArray, body: BoolArray, perceptual: Lpips | None
) -> dict[str, float]:
    """PSNR, SSIM, MS-SSIM and LPIPS of one slice in one range, over the slice and within the body.

    Args:
        protocol: The range.
        hu: ``(rows, columns)`` HU.
        reference_hu: ``(rows, columns)`` true HU.
        body: ``(rows, columns)`` bool, from :func:`qdm_med.evaluation.measures.tissues.body_mask` of the true slice.
        perceptual: LPIPS; its column is left out without it.

    Returns:
        Column name -> value; NaN for what a slice of this size or without a body has not.
    """
    image, reference = (torch.from_numpy(protocol.convert(one))[None, None].double() for one in (hu, reference_hu))
    mask = torch.from_numpy(body)
    width = protocol.data_range
    similarity = ssim_map(image, reference, width)
    scores = {
        "psnr_db": float(psnr(image, reference, width)),
        "ssim": float(masked_mean(similarity, None)),
        "ms_ssim": float(ms_ssim(image, reference, width)),
        "psnr_body_db": float(psnr(image, reference, width, mask)),
        "ssim_body": float(masked_mean(similarity, mask)),
    }
    if perceptual is not None and protocol.perceptual:
        shown, true = (
            one.float() if protocol.name == "network" else one.float() / 127.5 - 1 for one in (image, reference)
        )
        with torch.no_grad():
            scores[perceptual.column] = float(perceptual(shown, true))
            # LPIPS looks at neighbourhoods, so it has no mask: outside the body the image is made the true one.
            scores[f"{perceptual.column}_body"] = float(perceptual(torch.where(mask, shown, true), true))
    return {protocol.prefix + name: value for name, value in scores.items()}
