"""Calibrate the standard deviation of a checkpoint's samples by tissue and write the checkpoint with what was measured in its card.

Usage: python -m tools.calibrate_uncertainty CHECKPOINT STORE WRITTEN [--mode balanced] [--samples 8] [--per-patient 1] [--threads 1]

Both kinds of input are measured on: slices degraded as the paper's benchmark does it, and slices made coarse as scanners do it
(qdm_med.evaluation.clinical.patients). Every other patient of the validation split is fitted
(qdm_med.evaluation.measures.tissue_calibration), at every scale, with the steps of the mode; the others only tell how well it
holds, apart in the body and in every tissue, on either kind. Weights stay bit for bit; WRITTEN may be CHECKPOINT. What the card
holds for other steps or numbers of samples stays. Run it again whenever weights or steps change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from benchmarks.timing import arguments, tell
from qdm_med.checkpoints.file import save_with_card
from qdm_med.checkpoints.model import Checkpoint, load_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.cases import make_case
from qdm_med.evaluation.clinical.patients import patient_cases
from qdm_med.evaluation.measures.calibration import fit_spread
from qdm_med.evaluation.measures.tissue_calibration import Pixels, coverage, fit_by_tissue
from qdm_med.evaluation.measures.tissues import TISSUES, body_mask
from qdm_med.evaluation.methods.qdm import Qdm, sampled
from qdm_med.evaluation.selection import select_slices
from qdm_med.inference.options import UpscaleOptions
from qdm_med.keys import keyed
from qdm_med.uncertainty import SpreadCalibration, local_contrast
from qdm_med.volume import FloatArray

PIXELS_A_SLICE = 4000
"""Pixels of each tissue of a slice that have a say, so that a small patient counts as much as a large one."""

FEWEST = 50
"""Pixels of a tissue below which a slice says nothing about it."""

CLINICAL_WAYS = ("spread", "noisy")
"""How slices are made coarse as scanners do it."""

Groups = Mapping[str, Pixels]
"""``"bone, clinical"`` and the like -> pixels."""


@dataclass(frozen=True)
class Input:
    """A slice with its truth.

    Attributes:
        kind: ``"benchmark"`` or ``"clinical"``.
        low_hu: What the model is given.
        truth_hu: What is true.
    """

    kind: str
    low_hu: FloatArray
    truth_hu: FloatArray


def inputs_of(store: SliceStore, index: int, scale: int, model: Checkpoint) -> Iterator[Input]:
    """Degrade one slice in every way."""
    case = make_case(store, index, scale, 0, model.card.intensity)
    if case.reference_hu is not None:
        yield Input("benchmark", case.low_hu, case.reference_hu)
    for one in patient_cases(store, [index], scale, seed=0):
        if one.way in CLINICAL_WAYS:
            yield Input("clinical", one.low_hu, one.truth_hu)


def groups_of(one: Input, method: Qdm, scale: int) -> Iterator[tuple[str, Pixels]]:
    """Sample one slice, and draw pixels of the body and of every tissue in it."""
    restored = method.restore(one.low_hu, scale)
    assert restored.std_hu is not None
    error = np.abs(restored.hu.astype(np.float64) - one.truth_hu)
    body, contrast = body_mask(one.truth_hu), local_contrast(restored.hu, scale)
    masks = {"body": body} | {tissue.name: body & tissue.mask(one.truth_hu) for tissue in TISSUES}
    for name, mask in masks.items():
        places = np.flatnonzero(mask)
        if len(places) >= FEWEST:
            drawn = keyed("calibration", name, one.kind).choice(places, size=PIXELS_A_SLICE)
            images = error, restored.std_hu, restored.hu, contrast
            values = (image.ravel()[drawn].astype(np.float64) for image in images)
            yield f"{name}, {one.kind}", Pixels(*values)


def measured_patients(
    model: Checkpoint, store: SliceStore, method: Qdm, scale: int, per_patient: int
) -> list[list[tuple[str, Pixels]]]:
    """Pixels of every validation patient that the model was not trained on, in the order of their keys."""
    allowed = set(select_slices(store, "val", 1, model.card).indices)
    patients = []
    for indices in store.spread_over_patients("val", per_patient).values():
        own = [one for index in indices if index in allowed for one in inputs_of(store, index, scale, model)]
        if own:
            patients.append([pair for one in own for pair in groups_of(one, method, scale)])
    return patients


def pooled(patients: Sequence[Sequence[tuple[str, Pixels]]]) -> Groups:
    """Pixels of all patients by group."""
    found: dict[str, list[Pixels]] = {}
    for name, pixels in (pair for patient in patients for pair in patient):
        found.setdefault(name, []).append(pixels)
    return {name: Pixels(*(np.concatenate(part) for part in zip(*own, strict=True))) for name, own in found.items()}


def measure(
    patients: Sequence[Sequence[tuple[str, Pixels]]], scale: int, steps: int, samples: int
) -> tuple[SpreadCalibration, dict[str, float]]:
    """Calibration of a scale, and its coverage of the patients that it was not measured on."""
    fitted, held_out = pooled(patients[::2]), pooled(patients[1::2])
    body = [pixels for name, pixels in fitted.items() if name.startswith("body")]
    factor, floor = fit_spread(*(np.concatenate([getattr(one, part) for one in body]) for part in ("error", "std")))
    tissues = fit_by_tissue(fitted)
    figures = {"patients": float(len(patients[::2])), "held-out patients": float(len(patients[1::2]))}
    figures |= {f"coverage of {name}": coverage(pixels, tissues) for name, pixels in sorted(held_out.items())}
    of_body = [figures[f"coverage of {name}"] for name in held_out if name.startswith("body")]
    told = round(float(np.mean(of_body)), 3)
    return SpreadCalibration(scale, steps, samples, round(factor, 3), round(floor, 2), told, tissues), figures


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, checkpoint=None, store=None, written=None, mode="balanced", samples=8, per_patient=1)
    model, store = load_checkpoint(given.checkpoint), SliceStore.open(given.store)
    found, told = [], {}
    for scale in model.card.scales:
        options = UpscaleOptions(scale=scale, mode=given.mode)
        method = sampled(model, options, torch.device("cpu"), given.samples)
        patients = measured_patients(model, store, method, scale, given.per_patient)
        steps = options.sampling_for(model.card).steps
        one, told[f"x{scale}"] = measure(patients, scale, steps, given.samples)
        found.append(replace(one, consistency=options.consistency_for(model.card)))
        tell({f"x{scale}": told[f"x{scale}"]}, None)
    measured = {(one.scale, one.steps, one.samples) for one in found}
    kept = [one for one in model.card.uncertainty if (one.scale, one.steps, one.samples) not in measured]
    save_with_card(given.checkpoint, given.written, replace(model.card, uncertainty=(*kept, *found)))
    print(f"{given.written}: {'; '.join(f'x{one.scale} {one.description()}' for one in found)}")
    if given.out is not None:
        tell(told, given.out)


if __name__ == "__main__":
    main()
