"""Derive the limits of the hallucination scan from interpolation, which cannot invent: how far it differs from the truth.

Usage: python -m tools.hallucination_limits STORE [--per-patient 2] [--threads 1] [--out limits.json]

Prints by scale the limit of qdm_med.evaluation.measures.hallucination.LIMIT_HU, measured on the training split, and the
share of patches that the constants now in the code flag in bicubic and Lanczos interpolation of the validation split.
"""

from __future__ import annotations

import numpy as np

from benchmarks.timing import arguments, tell
from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.measures.hallucination import FALSE_ALARMS, LIMIT_HU, scan
from qdm_med.evaluation.methods.interpolation import Interpolation
from qdm_med.intensity import CompandedRange
from qdm_med.resample import bicubic, lanczos

INTENSITY = CompandedRange()


def scanned(
    store: SliceStore, split: str, scale: int, per_patient: int, method: Interpolation
) -> list[list[np.ndarray]]:
    """Differences of uncorrelated patches in HU, by patient and slice."""
    found = []
    for indices in store.spread_over_patients(split, per_patient).values():
        cases = [make_case(store, index, scale, 0, INTENSITY) for index in indices]
        found.append([scan(method.restore(one.low_hu, scale).hu, one.reference_hu, scale) for one in cases])
    return [[one.uncorrelated_hu() for one in patient] for patient in found]


def measure(store: SliceStore, scale: int, per_patient: int) -> dict[str, dict[str, float]]:
    """Limit of a scale, and the share of other slices that the limit in the code flags."""
    cubic, windowed = Interpolation("bicubic", bicubic, INTENSITY), Interpolation("lanczos", lanczos, INTENSITY)
    train = scanned(store, "train", scale, per_patient, cubic)
    values = np.concatenate([one for patient in train for one in patient])
    told = {
        f"x{scale} train": {
            "limit_hu": float(np.quantile(values, 1 - FALSE_ALARMS)),
            "in_code_hu": LIMIT_HU[scale],
            "slices": sum(map(len, train)),
            "patients": len(train),
            "patches": len(values),
        }
    }
    for method in (cubic, windowed):
        val = scanned(store, "val", scale, per_patient, method)
        shares = [np.mean([(one > LIMIT_HU[scale]).mean() for one in patient]) for patient in val]
        told[f"x{scale} val, {method.name}"] = {
            "flagged_share": float(np.mean(shares)),
            "most_of_a_patient": float(np.max(shares)),
            "slices": sum(map(len, val)),
            "patients": len(val),
        }
    return told


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, store=None, per_patient=2)
    store = SliceStore.open(given.store)
    told = {}
    for scale in LIMIT_HU:
        told |= measure(store, scale, given.per_patient)
    tell(told, given.out)


if __name__ == "__main__":
    main()
