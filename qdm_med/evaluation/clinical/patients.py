"""Slices of patients, made coarse in three ways, to see whether anatomy, edges and HU of every tissue survive."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.clinical.case import Finding
from qdm_med.evaluation.clinical.ring_correlation import resolution
from qdm_med.evaluation.clinical.scan import Scan, scanned
from qdm_med.evaluation.measures.tissues import TISSUES, body_mask
from qdm_med.intensity import HU_MAX, HU_MIN
from qdm_med.keys import keyed
from qdm_med.volume import FloatArray

WAYS: Mapping[str, Scan] = MappingProxyType({"area": Scan(0.0), "spread": Scan(1.2), "noisy": Scan(1.2, 12.0, 1.4)})
"""Area mean alone; with a point spread as scanners have it; with noise, too."""

FEWEST_PIXELS = 200
"""Fine pixels below which a tissue of a slice says nothing."""


@dataclass(frozen=True)
class PatientCase:
    """A slice of a patient, made coarse, with the original as truth.

    Attributes:
        title: Name of the slice, for people.
        scale: Magnification.
        low_hu: As made coarse.
        truth_hu: The slice.
        way: One of :data:`WAYS`.
    """

    title: str
    scale: int
    low_hu: FloatArray
    truth_hu: FloatArray
    way: str

    def findings(self, hu: FloatArray) -> Iterator[Finding]:
        """Measure error and resolution of the slice, and error and bias of every tissue within the body."""
        error = np.clip(hu, HU_MIN, HU_MAX).astype(np.float64) - self.truth_hu
        yield Finding(f"rmse_{self.way}", _rms(error))
        yield Finding(f"resolution_{self.way}", resolution(hu, self.truth_hu))
        body = body_mask(self.truth_hu)
        if body.sum() >= FEWEST_PIXELS:
            yield Finding("rmse_body", _rms(error[body]))
            yield Finding("bias_body", float(error[body].mean()))
        for tissue in TISSUES:
            own = body & tissue.mask(self.truth_hu)
            if own.sum() >= FEWEST_PIXELS:
                yield Finding(f"rmse_{tissue.name}", _rms(error[own]))
                yield Finding(f"bias_{tissue.name}", float(error[own].mean()))


def _rms(error: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    return float(np.sqrt(np.square(error).mean()))


def patient_cases(store: SliceStore, indices: Sequence[int], scale: int, seed: int) -> Iterator[PatientCase]:
    """Make slices of a store coarse.

    Args:
        store: Slices.
        indices: Numbers of the chosen slices.
        scale: Magnification.
        seed: Of the noise, which is keyed by the slice, too.
    """
    for index in indices:
        rows, columns = (length - length % scale for length in store.hu(index).shape)
        truth = np.clip(store.hu(index)[:rows, :columns].astype(np.float64), HU_MIN, HU_MAX)
        key = store.records[index].sha256
        for way, scan in WAYS.items():
            low = scanned(truth, scale, scan, keyed(str(seed), "clinical slice", str(scale), key, way))
            title = f"slice {index}, patient {store.records[index].patient[:8]}, {way}"
            yield PatientCase(title, scale, low, truth.astype(np.float32), way)
