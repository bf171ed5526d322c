"""What the quadtree saves: dense against sparse, alternating in one run, ratios of medians.

Usage: python benchmarks/sparsity.py STORE [--checkpoint FILE] [--slices N] [--out FILE]

Takes slices of the validation split, degraded as the benchmarks are, and times the downstream network, one denoiser step
and the whole super-resolution of a slice at the model's threshold and at threshold 0.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from qdm_med.checkpoint import default_checkpoint, load_checkpoint
from qdm_med.data.degradation import BENCHMARK
from qdm_med.data.pairs import full_pairs
from qdm_med.data.slices import SliceStore
from qdm_med.inference.upscale import UpscaleOptions, Upscaler
from qdm_med.models.conditioning import condition
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@torch.no_grad()
def measure(store: SliceStore, checkpoint: Path, slices: int) -> dict[str, dict[str, float]]:
    """Median seconds, dense and sparse, and their ratio, for each scale and part."""
    model = load_checkpoint(checkpoint)
    told: dict[str, dict[str, float]] = {}
    for scale in model.card.scales:
        times: dict[tuple[str, str], list[float]] = defaultdict(list)
        leaves, windows = [], []
        upscalers = {
            name: Upscaler(model, UpscaleOptions(scale=scale, threshold=threshold), device=CPU)
            for name, threshold in (("dense", 0.0), ("sparse", None))
        }
        stride = max(1, len(store.indices("val")) // slices)
        for pair in full_pairs(store, "val", scale, BENCHMARK, every=stride):
            hu = model.card.intensity.to_hu(pair.low_res[0, 0].numpy())
            ct_slice = CtSlice(hu, np.zeros(hu.shape, dtype=bool), 0.0)
            for (name, upscaler), repeat in itertools.product(upscalers.items(), range(2)):
                known = condition(
                    model.autoencoder, model.denoiser, pair.low_res, scale=scale, threshold=upscaler.threshold
                )
                t = torch.tensor([len(known.z_y) - 1])
                features = torch.zeros(1, model.card.denoiser.trunk_channels, *known.z_y.shape[-2:])
                context = torch.zeros(1, 256, model.card.denoiser.hidden)
                parts = {
                    "downstream": lambda k=known, f=features, c=context, t=t: model.denoiser.downstream(
                        f, t, c, k.plan
                    ),
                    "denoiser step": lambda k=known, t=t: model.denoiser(k.z_y, t, k.low_res, k.z_y, k.plan),
                    "whole slice": lambda u=upscaler, s=ct_slice: u.upscale_slice(s, "benchmark"),
                }
                for part, work in parts.items():
                    taken = seconds(work)
                    if repeat:  # the first round warms up
                        times[part, name].append(taken)
                if name == "sparse" and repeat:
                    leaves.append(float(known.leaves.float().mean()))
                    windows.append(float(known.plan.active.float().mean()))
        for part in ("downstream", "denoiser step", "whole slice"):
            dense, sparse = (statistics.median(times[part, name]) for name in ("dense", "sparse"))
            told[f"x{scale} {part}"] = {"dense_s": dense, "sparse_s": sparse, "ratio": dense / sparse}
        told[f"x{scale} active"] = {"leaves": statistics.mean(leaves), "windows": statistics.mean(windows)}
    return told


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint())
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--out", type=Path, default=None)
    given = parser.parse_args()
    told = measure(SliceStore.open(given.store), given.checkpoint, given.slices)
    for name, figures in told.items():
        print(name.ljust(20), ", ".join(f"{key} {value:.3f}" for key, value in figures.items()))
    if given.out is not None:
        given.out.write_text(json.dumps(told, indent=2) + "\n")


if __name__ == "__main__":
    main()
