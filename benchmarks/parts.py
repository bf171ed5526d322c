"""What each part of a checkpoint's network contributes: each silenced in turn, figures within the active leaves.

Usage: python benchmarks/parts.py STORE LPIPS_BACKBONE [--checkpoint FILE] [--every 9] [--scales 4,8] [--steps 1,4,8]
           [--threshold S]

Validation slices are sampled as clinical ones are. Shown are PSNR (network's range, data range 2), RMSE in HU and the LPIPS of the slice
whose other leaves are the truth's, means over slices, before any agreement with the source: bicubic, the encoder of the source alone,
and for one step at temperature 0 and samples of so many steps the whole network, then without its downstream, its upstream, both. Silenced means
that a stream answers zero; the quadtree, the mask that the network sees, and the draws stay the same.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qdm_med.checkpoints.model import Checkpoint, default_checkpoint, load_checkpoint
from qdm_med.data.degradation.degrade import CLINICAL
from qdm_med.data.pairs import SlicePair, full_pairs
from qdm_med.data.store.slices import SliceStore
from qdm_med.diffusion.chain import chain_of
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.schedule import trailing_timesteps
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import psnr
from qdm_med.evaluation.measures.perceptual import Lpips
from qdm_med.evaluation.tables.table import Table
from qdm_med.inference.super_resolution import read_steps, slice_draws, super_resolve
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.conditioning import active_leaves, leaf_grid
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.models.qdm.quadtree import PaperQuadtree, on_finer_grid
from qdm_med.resample import upsample

CPU = torch.device("cpu")
SILENCED = {
    "": (),
    "no downstream": ("downstream",),
    "no upstream": ("upstream",),
    "neither": ("downstream", "upstream"),
}

Answer = Callable[[SlicePair, Tensor], Tensor]
"""A pair and its active leaves -> ``(1, 1, rows, columns)`` in [-1, 1]."""


def answer_zero(module: torch.nn.Module, given: Any, answer: Any) -> Any:
    """Forward hook: a stream's answer is nothing; what the upstream tells the downstream stays."""
    return (torch.zeros_like(answer[0]), *answer[1:]) if isinstance(answer, tuple) else torch.zeros_like(answer)


def network(model: Checkpoint) -> TwoStreamDenoiser:
    """The two streams of a checkpoint."""
    if not isinstance(model.denoiser, TwoStreamDenoiser):
        raise ConfigError(f"{model.card.name} has no two streams; give the checkpoint of a QDM")
    return model.denoiser


@contextmanager
def silenced(model: Checkpoint, parts: tuple[str, ...]) -> Iterator[None]:
    """Run with some streams silenced."""
    hooks = [getattr(network(model), part).register_forward_hook(answer_zero) for part in parts]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def interpolated(pair: SlicePair, leaves: Tensor) -> Tensor:
    """Bicubic."""
    return upsample(pair.low_res, pair.scale)


@torch.no_grad()
def expected(model: Checkpoint, pair: SlicePair, leaves: Tensor) -> Tensor:
    """What the encoder of the source makes of the slice by itself."""
    z_y = model.autoencoder.encode(upsample(pair.low_res, pair.scale))
    return model.autoencoder.decode(network(model).expect(pair.low_res, z_y))


def sampled(
    model: Checkpoint, steps: int, temperature: float, parts: tuple[str, ...], pair: SlicePair, leaves: Tensor
) -> Tensor:
    """A sample of so many steps."""
    chain = chain_of(model.card.schedule)
    schedule = chain.respaced(trailing_timesteps(len(chain), steps))
    height, width = pair.low_res.shape[-2:]
    channels = model.card.autoencoder.latent_channels
    noise = SliceNoise(0, pair.record.sha256, 0.0)
    draws = slice_draws(noise, (slice(0, height), slice(0, width)), channels=channels, scale=pair.scale, device=CPU)
    with silenced(model, parts):
        return super_resolve(
            model.autoencoder,
            network(model),
            pair.low_res,
            leaves,
            scale=pair.scale,
            schedule=schedule,
            steps=read_steps(network(model), schedule, CPU),
            noises=(lambda number: temperature * draws(number),),
        )


def answers(model: Checkpoint, steps: tuple[int, ...]) -> dict[str, Answer]:
    """Every row of the table."""
    rows: dict[str, Answer] = {"bicubic": interpolated}
    if network(model).config.source_channels:
        rows["encoder of the source"] = partial(expected, model)
    ways = {"one step, temperature 0": (1, 0.0)} | {f"sample of {number} steps": (number, 1.0) for number in steps}
    for title, (number, temperature) in ways.items():
        for without, parts in SILENCED.items():
            rows[f"{title}, {without}".rstrip(", ")] = partial(sampled, model, number, temperature, parts)
    return rows


def figures(answer: Tensor, pair: SlicePair, inside: Tensor, model: Checkpoint, lpips: Lpips) -> tuple[float, ...]:
    """PSNR, RMSE in HU and LPIPS within the active leaves."""
    answer = answer.clamp(-1, 1)
    hu = [model.card.intensity.to_hu(image[inside].numpy()) for image in (answer, pair.high_res)]
    shown = torch.where(inside, answer, pair.high_res)
    distance = float(lpips(shown, pair.high_res).detach())
    decibels = float(psnr(answer, pair.high_res, mask=inside[0, 0]))
    return decibels, float(np.sqrt(np.mean((hu[0] - hu[1]) ** 2))), distance


def measure(model: Checkpoint, given: argparse.Namespace, scale: int, lpips: Lpips) -> dict[str, list[float]]:
    """Means over slices of one scale, by row."""
    store = SliceStore.open(given.store)
    found: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    rows = answers(model, tuple(int(number) for number in given.steps.split(",")))
    patch = network(model).config.downstream_patch
    threshold = model.card.threshold if given.threshold is None else given.threshold
    for pair in full_pairs(store, "val", scale, CLINICAL, intensity=model.card.intensity, every=given.every):
        height, width = pair.low_res.shape[-2:]
        leaves = active_leaves(pair.low_res, PaperQuadtree(threshold), leaf_grid((height, width), scale, patch))
        fine = on_finer_grid(leaves, patch * DOWNSAMPLING)[:, None]
        inside = fine[..., : height * scale, : width * scale]
        if inside.any():
            for title, answer in rows.items():
                found[title].append(figures(answer(pair, leaves), pair, inside, model, lpips))
    return {title: [float(value) for value in np.mean(rows, axis=0)] for title, rows in found.items()}


def main() -> None:
    """Print one table a scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("store", "backbone"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--checkpoint", type=Path, default=default_checkpoint("clinical"))
    parser.add_argument("--every", type=int, default=9)
    parser.add_argument("--scales", default="4,8")
    parser.add_argument("--steps", default="1,4,8")
    parser.add_argument("--threshold", type=float)
    given = parser.parse_args()
    model, lpips = load_checkpoint(given.checkpoint), Lpips(given.backbone)
    for scale in (int(one) for one in given.scales.split(",")):
        rows = measure(model, given, scale, lpips)
        head = ("", "PSNR dB", "RMSE HU", lpips.column)
        body = tuple((title, f"{a:.2f}", f"{b:.1f}", f"{c:.4f}") for title, (a, b, c) in rows.items())
        print(Table(f"x{scale}, within active leaves", head, body).markdown(), flush=True)


if __name__ == "__main__":
    main()
