"""Train a tiny autoencoder and a tiny denoiser on phantoms: the whole way, in seconds.

Usage: python examples/train_tiny.py OUTPUT_FOLDER

The result is of no use; the way is that of a real training (see configs/ for those).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from qdm_med.checkpoints.model import load_checkpoint
from qdm_med.data.store.slices import SliceRecord, anonymous_key, slice_checksum
from qdm_med.data.store.writer import SliceStoreWriter
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.training.experiment import ExperimentConfig
from qdm_med.training.loop import LoopConfig
from qdm_med.training.objective import DenoiserTrainingConfig
from qdm_med.training.runs import Start, run_denoiser, run_vae
from qdm_med.training.vae import VaeTrainingConfig

SIDE = 64


def phantom(number: int) -> np.ndarray:
    """Draw a few discs of random HU in air, ``(64, 64)`` int16."""
    rng = np.random.default_rng(number)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    hu = np.full((SIDE, SIDE), -1000.0)
    for _ in range(6):
        row, column, radius = (*rng.uniform(8, SIDE - 8, 2), rng.uniform(3, 16))
        hu[np.hypot(rows - row, columns - column) < radius] = rng.uniform(-800, 1200)
    return (hu + rng.normal(0, 10, hu.shape)).astype(np.int16)


def make_store(folder: Path) -> None:
    """Write a store of twelve phantoms of four patients, one of them for validation."""
    with SliceStoreWriter(folder, slice_shape=(SIDE, SIDE), split_rule="the last patient validates") as store:
        for number in range(12):
            hu, patient = phantom(number), number // 3
            record = SliceRecord(
                split="val" if patient == 3 else "train",
                patient=anonymous_key(f"phantom {patient}"),
                series=anonymous_key(f"phantom series {patient}"),
                position_mm=float(number % 3),
                pixel_spacing_mm=1.0,
                slice_thickness_mm=1.0,
                kernel="",
                manufacturer="",
                source="phantoms",
                sha256=slice_checksum(hu),
            )
            store.add(hu, record)


def main(folder: Path) -> None:
    """Make data, train both networks, read the checkpoint back."""
    make_store(folder / "store")
    config = ExperimentConfig(
        name="tiny",
        loop=LoopConfig(steps=4, batch=2, learning_rate=1e-3, warmup=1, log_every=1, save_every=2, validate_every=4),
        autoencoder=AutoencoderConfig(latent_channels=2, channels=(8, 16), res_blocks=(1, 1)),
        vae=VaeTrainingConfig(crop=32, validation_slices=1),
        denoiser=DenoiserConfig(latent_channels=2, trained_size=16, hidden=16, depth=1, heads=2),
        training=DenoiserTrainingConfig(crops=(64,), validation_slices=1),
    )
    vae = folder / "vae"
    run_vae(config, Start(folder / "store", vae, device="cpu"))
    run_denoiser(config, Start(folder / "store", folder / "qdm", device="cpu"), vae / "checkpoint.safetensors")
    checkpoint = load_checkpoint(folder / "qdm" / "checkpoint.safetensors")
    print(f"model {checkpoint.card.name} for x{checkpoint.card.scales} has hash {checkpoint.sha256[:12]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
