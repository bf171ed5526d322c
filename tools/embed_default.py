"""Embed a trained checkpoint in the package: its name, half precision, default steps, training domain in its card.

It takes the place of the embedded model of its purpose. Usage: python -m tools.embed_default CHECKPOINT STORE STEPS_X4
STEPS_X8, and tools.calibrate_uncertainty after it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import torch

from qdm_med.checkpoints.model import default_checkpoint, load_checkpoint, save_checkpoint
from qdm_med.data.store.slices import SliceStore


def domain(store: SliceStore, scales: tuple[int, ...]) -> dict[str, list[float]]:
    """Range of the low-resolution images that the model was trained on; larger matrices are tiled, so none is recorded."""
    records = [store.records[index] for index in store.indices("train")]
    spacings = [record.pixel_spacing_mm for record in records]
    thicknesses = [record.slice_thickness_mm for record in records if record.slice_thickness_mm > 0]
    return {
        "pixel_spacing_mm": [round(min(spacings) * min(scales), 3), round(max(spacings) * max(scales), 3)],
        "slice_thickness_mm": [min(thicknesses), max(thicknesses)],
    }


def main(checkpoint: Path, store: Path, steps: tuple[int, ...]) -> None:
    """Write the package's checkpoint for the model's purpose."""
    model = load_checkpoint(checkpoint)
    target = default_checkpoint(model.card.purpose)
    # A clinical model is bound by noise and point spread, which its training recorded, not by millimetres.
    known = model.card.training.get("domain") or domain(SliceStore.open(store), model.card.scales)
    card = replace(model.card, name=target.stem, steps=steps, training={**model.card.training, "domain": known})
    sha256 = save_checkpoint(target, card, model.autoencoder, model.denoiser, dtype=torch.float16)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB, sha256 {sha256}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), tuple(int(steps) for steps in sys.argv[3:5]))
