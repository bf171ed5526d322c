"""Measure what the quadtree saves on real slices and costs in quality: dense, paper's and adaptive, in one run.

Usage: python benchmarks/sparsity.py STORE [--slices 8] [--checkpoint FILE] [--threads 2] [--out sparsity.json]

Takes slices of the validation split, degraded as the benchmarks are, and alternates: the downstream network, one denoiser
step, the autoencoder, and the whole super-resolution of a slice; then the whole slice by steps, tile, batch and threads.
"""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from pathlib import Path

import numpy as np
import torch
from timing import against, alternating, arguments, tell

from qdm_med.checkpoints.model import Checkpoint, default_checkpoint, load_checkpoint
from qdm_med.data.degradation.degrade import BENCHMARK
from qdm_med.data.pairs import SlicePair, full_pairs
from qdm_med.data.store.slices import SliceStore
from qdm_med.evaluation.measures.metrics import psnr, ssim
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.models.conditioning import active_leaves, condition, leaf_grid
from qdm_med.models.qdm.quadtree import PaperQuadtree
from qdm_med.resample import upsample
from qdm_med.volume import CtSlice

CPU = torch.device("cpu")
Times = dict[str, list[float]]


def ct_slice(model: Checkpoint, pair: SlicePair) -> CtSlice:
    """The degraded slice as a series would hold it."""
    hu = model.card.intensity.to_hu(pair.low_res[0, 0].numpy())
    return CtSlice(hu, np.zeros(hu.shape, dtype=bool), 0.0)


def ways_to_upscale(model: Checkpoint, scale: int) -> dict[str, Upscaler]:
    """Options whose whole slices are timed."""
    options = {
        "dense": {"threshold": 0.0},
        "paper": {"quadtree": "paper", "threshold": 0.15},
        "adaptive": {"quadtree": "adaptive"},
        "paper, 1 step": {"quadtree": "paper", "threshold": 0.15, "steps": 1},
        "paper, 15 steps": {"quadtree": "paper", "threshold": 0.15, "steps": 15},
        "paper, half tiles": {"quadtree": "paper", "threshold": 0.15, "tile": 256 // scale},
    }
    return {name: Upscaler(model, UpscaleOptions(scale=scale, **each), device=CPU) for name, each in options.items()}


@torch.no_grad()
def parts(model: Checkpoint, pair: SlicePair) -> Times:
    """Times of the networks' parts, dense and at s = 0.15."""
    scale, low_res = pair.scale, pair.low_res
    grid = leaf_grid((low_res.shape[-2], low_res.shape[-1]), scale, model.denoiser.config.downstream_patch)
    image = upsample(low_res, scale)
    ways = {"encode": lambda: model.autoencoder.encode(image)}
    step = model.denoiser.read_step(torch.tensor([14]))  # once a run
    for name, threshold in (("dense", 0.0), ("s = 0.15", 0.15)):
        leaves = active_leaves(low_res, PaperQuadtree(threshold), grid)
        known = condition(model.autoencoder, model.denoiser, low_res, leaves, scale=scale)
        features = torch.zeros(1, model.denoiser.config.trunk_channels, *known.z_y.shape[-2:])
        across = known.z_y.shape[-1] // model.denoiser.config.upstream_patch
        context = torch.zeros(1, across, across, model.denoiser.config.hidden)
        ways[f"downstream, {name}"] = lambda k=known, f=features, c=context: model.denoiser.downstream(
            f, step.downstream, c, k.plan
        )
        source = model.denoiser.read_source(known.low_res, known.z_y)
        ways[f"step, {name}"] = lambda k=known, s=source: model.denoiser(k.z_y, step, k.low_res, k.z_y, k.plan, s)
        ways["source"] = lambda k=known: model.denoiser.read_source(k.low_res, k.z_y)
        ways["decode"] = lambda k=known: model.autoencoder.decode(k.z_y)
    return alternating(ways, 1)


def more(into: dict[str, list[float]], times: Times) -> None:
    """Collect the times of one more slice."""
    for name, taken in times.items():
        into[name] += taken


def on_one_thread(upscaler: Upscaler, source: CtSlice) -> None:
    """Super-resolve with one thread, whatever the others use."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    upscaler.upscale_slice(source, "-")
    torch.set_num_threads(threads)


def measure(model: Checkpoint, pairs: list[SlicePair]) -> dict[str, dict[str, float]]:
    """Measure all figures of one scale."""
    scale = pairs[0].scale
    ways = ways_to_upscale(model, scale)
    of_parts, of_slices, of_threads = defaultdict(list), defaultdict(list), defaultdict(list)
    quality = {name: [] for name in ways}
    for pair in pairs:
        source = ct_slice(model, pair)
        more(of_parts, parts(model, pair))
        more(of_slices, alternating({name: partial(u.upscale_slice, source, "-") for name, u in ways.items()}, 1))
        on_threads = {
            "all threads": partial(ways["paper"].upscale_slice, source, "-"),
            "one thread": partial(on_one_thread, ways["paper"], source),
        }
        more(of_threads, alternating(on_threads, 1))
        for name, upscaler in ways.items():
            result = upscaler.upscale_slice(source, pair.record.sha256)
            image = torch.from_numpy(model.card.intensity.to_unit(result.hu))[None, None]
            quality[name].append(
                (
                    float(psnr(image, pair.high_res)),
                    float(ssim(image, pair.high_res)),
                    result.leaves.mean(),
                    result.windows / result.windows_in_all,
                )
            )
    together = Upscaler(
        model, UpscaleOptions(scale=scale, quadtree="paper", threshold=0.15, batch_leaves=10**9), device=CPU
    )
    jobs = [together.plan(ct_slice(model, pair), "benchmark") for pair in pairs[:4]]
    batches = {
        "slice by slice": lambda: [together.compute([job]) for job in jobs],
        f"{len(jobs)} together": lambda: together.compute(jobs),
    }
    told = against("step, dense", of_parts)
    told["downstream, s = 0.15"]["dense / sparse"] = (
        told["downstream, dense"]["seconds"] / told["downstream, s = 0.15"]["seconds"]
    )
    whole = against("dense", of_slices)
    for name, figures in whole.items():
        columns = np.mean(quality[name], axis=0)
        whole[name] = figures | {
            "dense / this": 1 / figures["of dense"],
            **dict(zip(("psnr", "ssim", "leaves", "windows"), columns.tolist(), strict=True)),
        }
    return {
        **told,
        **{f"slice: {name}": figures for name, figures in whole.items()},
        **against("all threads", of_threads),
        **against("slice by slice", alternating(batches, 3)),
    }


def main() -> None:
    """Measure, print, write."""
    given = arguments(__doc__, store=None, slices=8, checkpoint=str(default_checkpoint()))
    store, model = SliceStore.open(given.store), load_checkpoint(Path(given.checkpoint))
    for network in (model.autoencoder, model.denoiser):
        network.to(memory_format=torch.channels_last)
    stride = max(1, len(store.indices("val")) // given.slices)
    told = {}
    for scale in model.card.scales:
        pairs = list(full_pairs(store, "val", scale, BENCHMARK, every=stride))
        told |= {f"x{scale} {name}": figures for name, figures in measure(model, pairs).items()}
    tell(told, given.out)


if __name__ == "__main__":
    main()
