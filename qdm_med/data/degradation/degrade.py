"""One entrance to the degradations of CT: a configuration draws parameters, and parameters make a low-resolution image.

Three families: the paper's (:mod:`qdm_med.data.degradation.real_esrgan`), which the benchmarks are made with; how clinical
slices are sampled (:mod:`qdm_med.data.degradation.clinical`); and a detector's large pixels under a sharp kernel
(:mod:`qdm_med.data.degradation.scanner`). ``draw`` of a configuration gives the
parameters of one image, and :func:`degrade` applies them; training, validation and benchmarks use these two and no other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor

from qdm_med.data.degradation.checks import require_one_scale
from qdm_med.data.degradation.clinical import ClinicalConfig, ClinicalParams, degrade_clinical
from qdm_med.data.degradation.real_esrgan import RealEsrganConfig, RealEsrganParams, degrade_real_esrgan
from qdm_med.data.degradation.scanner import ScannerConfig, ScannerParams, degrade_scanner
from qdm_med.errors import DataError
from qdm_med.intensity import CompandedRange, IntensityMap

DegradationConfig = RealEsrganConfig | ScannerConfig | ClinicalConfig
"""Distributions that the parameters of a degradation are drawn from."""

DegradationParams = RealEsrganParams | ScannerParams | ClinicalParams
"""Parameters of one image, from which its low-resolution image can be made again, bit for bit.

:mod:`qdm_med.serialise` turns it into JSON and back without loss; ``kind`` tells the family.
"""

TRAINING = RealEsrganConfig()
"""Degradation of the paper's training (QDM, arXiv 2503.12015)."""

BENCHMARK = RealEsrganConfig(blur_sigma=(0.2, 0.8), gaussian_probability=0.5, poisson_scale=(0.05, 0.3))
"""Degradation of Med-SR4 and Med-SR8 (QDM, arXiv 2503.12015): milder blur and photon noise."""

SCANNER = ScannerConfig()
"""Closer to CT: noise in HU before the reconstruction kernel, which colours it; no JPEG, no rounding to 8 bits."""

CLINICAL = ClinicalConfig()
"""Sampling of clinical series: a point spread of up to two pixels, coloured noise in HU."""

DEGRADATIONS: Mapping[str, DegradationConfig] = MappingProxyType(
    {"paper": BENCHMARK, "clinical": CLINICAL, "scanner": SCANNER}
)
"""Degradations of a benchmark's slices by name; Med-SR4 and Med-SR8 are the paper's."""

_APPLY: Mapping[str, Callable[[Tensor, Sequence[Any], IntensityMap], Tensor]] = {
    RealEsrganParams.kind: degrade_real_esrgan,
    ScannerParams.kind: degrade_scanner,
    ClinicalParams.kind: degrade_clinical,
}
"""Each family's function, by the ``kind`` of its parameters."""


def degrade(high_res: Tensor, params: Sequence[DegradationParams], *, intensity: IntensityMap | None = None) -> Tensor:
    """Make low-resolution images.

    Pixel edges stay in place: the first low-resolution pixel covers the first ``scale`` high-resolution ones. An
    image's result depends on its own parameters only, not on the batch.

    Args:
        high_res: ``(B, C, H, W)`` in [-1, 1], one channel or three; sides are multiples of the scale.
        params: One image's parameters each, all of one family and scale.
        intensity: Mapping between HU and [-1, 1], :class:`~qdm_med.intensity.CompandedRange` unless given; the Real-ESRGAN
            family works on [-1, 1] itself.

    Returns:
        ``(B, C, H / scale, W / scale)`` in [-1, 1], on the device and in the type of ``high_res``.

    Raises:
        DataError: If the parameters do not fit the images.
    """
    require_one_scale(high_res, params)
    kinds = Counter(one.kind for one in params)
    if len(kinds) > 1:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        raise DataError(f"parameters of several families, {told}; take one family for a batch")
    apply = _APPLY[params[0].kind]
    return apply(high_res, params, intensity or CompandedRange()).to(high_res.dtype)
