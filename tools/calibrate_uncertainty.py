"""Calibrate the standard deviation of a checkpoint's samples and write the checkpoint with what was measured in its card.

Usage: python -m tools.calibrate_uncertainty CHECKPOINT STORE WRITTEN [--samples 8] [--per-patient 1] [--threads 1]

Every other patient of the validation split is measured on (qdm_med.evaluation.measures.calibration.fit_spread), at every
scale, with the checkpoint's default steps; the others only tell how well it holds. Weights stay bit for bit; WRITTEN may
be CHECKPOINT. Run it again whenever weights or default steps change.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.timing import arguments, tell
from qdm_med.checkpoints.file import save_with_card
from qdm_med.checkpoints.model import Checkpoint, load_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.measures.calibration import calibration, fit_spread, reach_of_samples
from qdm_med.evaluation.measures.tissues import TISSUES
from qdm_med.evaluation.methods.ensemble import sampled
from qdm_med.evaluation.methods.method import Restored
from qdm_med.evaluation.scoring import Truth
from qdm_med.evaluation.selection import select_slices
from qdm_med.inference.options import UpscaleOptions
from qdm_med.uncertainty import REACH, SpreadCalibration

PIXELS_A_PATIENT = 20_000
"""Pixels that a patient has a say with, however many slices there are of it."""


@dataclass(frozen=True)
class Sampled:
    """One slice, sampled.

    Attributes:
        truth: True slice.
        restored: Mean and standard deviation of the samples.
    """

    truth: Truth
    restored: Restored

    def errors_and_spreads(self, pixels: int, rng: np.random.Generator) -> np.ndarray:
        """``(2, pixels)`` absolute error and standard deviation of pixels drawn within the body, in HU."""
        body = np.flatnonzero(self.truth.body)
        drawn = rng.choice(body, size=pixels)
        error = np.abs(self.restored.hu - self.truth.hu).ravel()[drawn]
        return np.stack([error, self.restored.std_hu.ravel()[drawn]]).astype(np.float64)

    def coverage(self, std_hu: np.ndarray, reach: float, low: float = -np.inf, high: float = np.inf) -> float:
        """Share of the body's pixels, of true HU from ``low`` to ``high``, within ``reach`` standard deviations."""
        mask = self.truth.body & (self.truth.hu >= low) & (self.truth.hu <= high)
        found = calibration(self.restored.hu, std_hu, self.truth.hu, mask, reach=reach)
        return found.coverage if found else float("nan")


Patients = Sequence[Sequence[Sampled]]


def sampled_patients(model: Checkpoint, store: SliceStore, scale: int, samples: int, per_patient: int) -> Patients:
    """Samples of slices of every validation patient that the model was not trained on, in the order of their keys."""
    method = sampled(model, UpscaleOptions(scale=scale), torch.device("cpu"), samples)
    allowed = set(select_slices(store, "val", 1, model.card).indices)
    patients = []
    for indices in store.spread_over_patients("val", per_patient).values():
        cases = [make_case(store, each, scale, 0, model.card.intensity) for each in indices if each in allowed]
        if cases:
            patients.append([Sampled(Truth.of(case), method.restore(case.low_hu, scale)) for case in cases])
    return patients


def over_patients(values: Sequence[Sequence[float]]) -> list[float]:
    """Means within patients, where there is something to measure."""
    means = [np.nanmean(own) for own in values if not np.isnan(own).all()]
    return [float(mean) for mean in means]


def measure(
    model: Checkpoint, patients: Patients, scale: int, samples: int
) -> tuple[SpreadCalibration, dict[str, float]]:
    """The calibration of a scale, and its figures on the patients that it was not measured on."""
    fitted, held_out = patients[::2], patients[1::2]
    rng = np.random.default_rng(0)
    pixels = [one.errors_and_spreads(PIXELS_A_PATIENT // len(own), rng) for own in fitted for one in own]
    factor, floor = fit_spread(*np.concatenate(pixels, axis=1))
    steps = model.card.steps_for(scale)
    found = SpreadCalibration(scale, steps, samples, round(factor, 3), round(floor, 2), coverage=0.0)

    def covered(group: Patients, low: float = -np.inf, high: float = np.inf) -> list[float]:
        return over_patients(
            [[one.coverage(found.apply(one.restored.std_hu), REACH, low, high) for one in own] for own in group]
        )

    raw = over_patients(
        [[one.coverage(one.restored.std_hu, reach_of_samples(samples)) for one in own] for own in held_out]
    )
    apart = covered(held_out)
    figures = {
        "factor": found.factor,
        "floor_hu": found.floor_hu,
        "patients": len(fitted),
        "coverage there": float(np.mean(covered(fitted))),
        "held-out patients": len(held_out),
        "raw coverage": float(np.mean(raw)),
        "coverage": float(np.mean(apart)),
        "least": min(apart),
        "most": max(apart),
    }
    for tissue in TISSUES:
        figures[f"coverage of {tissue.name}"] = float(np.mean(covered(held_out, tissue.low, tissue.high)))
    return replace(found, coverage=round(figures["coverage"], 3)), figures


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, checkpoint=None, store=None, written=None, samples=8, per_patient=1)
    model, store = load_checkpoint(given.checkpoint), SliceStore.open(given.store)
    found, told = [], {}
    for scale in model.card.scales:
        patients = sampled_patients(model, store, scale, given.samples, given.per_patient)
        one, told[f"x{scale}"] = measure(model, patients, scale, given.samples)
        found.append(one)
        tell({f"x{scale}": told[f"x{scale}"]}, None)
    save_with_card(given.checkpoint, given.written, replace(model.card, uncertainty=tuple(found)))
    print(f"{given.written}: {'; '.join(f'x{one.scale} {one.description()}' for one in found)}")
    if given.out is not None:
        tell(told, given.out)


if __name__ == "__main__":
    main()
