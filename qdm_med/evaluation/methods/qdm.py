"""A checkpoint of this package as a method, run exactly as ``qdm-med upscale`` runs it, and two ablations of it."""

from __future__ import annotations

import copy
import hashlib
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qdm_med.checkpoints.model import Checkpoint
from qdm_med.errors import CheckpointError, ConfigError
from qdm_med.evaluation.measures.cost import CountedAutoencoder, count_macs
from qdm_med.evaluation.methods.method import Restored
from qdm_med.inference.options import DEFAULT_CONSISTENCY, UpscaleOptions
from qdm_med.inference.upscaler import Upscaler
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.volume import CtSlice, FloatArray


@dataclass(frozen=True)
class Counting:
    """The same networks in a run of their own, to count multiply-accumulates: counting takes time.

    Attributes:
        upscaler: Runs ``autoencoder``.
        autoencoder: Counts what it does itself.
    """

    upscaler: Upscaler
    autoencoder: CountedAutoencoder

    @classmethod
    def of(cls, checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device) -> Counting:
        """Prepare to count a checkpoint with its options."""
        autoencoder = CountedAutoencoder(checkpoint.autoencoder).eval()
        return cls(Upscaler(replace(checkpoint, autoencoder=autoencoder), options, device=device), autoencoder)

    def cost(self, ct_slice: CtSlice, key: str) -> dict[str, float]:
        """``macs`` of a slice, and ``macs_diffusion``, those without the autoencoder's."""
        self.autoencoder.macs = 0
        _, macs = count_macs(lambda: self.upscaler.upscale_slice(ct_slice, key))
        return {"macs": float(macs), "macs_diffusion": float(macs - self.autoencoder.macs)}


@dataclass(frozen=True)
class Qdm:
    """A checkpoint with its options, as a method.

    Attributes:
        name: Name in tables.
        upscaler: Ready to run.
        counting: Counts multiply-accumulates, if that is wanted.
        spread: Whether the samples' standard deviation is wanted, raw and calibrated.
    """

    name: str
    upscaler: Upscaler
    counting: Counting | None = None
    spread: bool = False

    def restore(self, low_hu: FloatArray, scale: int) -> Restored:
        """Super-resolve one slice; its noise is keyed by its pixels, so that the order of slices does not matter."""
        key = hashlib.sha256(low_hu.tobytes()).hexdigest()
        ct_slice = CtSlice(low_hu, np.zeros(low_hu.shape, dtype=bool), 0.0)
        start = time.perf_counter()
        result = self.upscaler.upscale_slice(ct_slice, key, uncertainty=self.spread)
        seconds = time.perf_counter() - start
        cost = {
            "threshold": float(self.upscaler.quadtree.threshold),
            "steps": float(self.upscaler.steps),
            "leaf_density": float(result.leaves.mean()),
            "windows": float(result.windows),
            "windows_in_all": float(result.windows_in_all),
        }
        cost |= self.counting.cost(ct_slice, key) if self.counting else {}
        samples = self.upscaler.samples if self.spread else 1
        calibrated = result.std_hu if self.upscaler.spread_calibration else None
        return Restored(result.hu, result.leaves, cost, result.raw_std_hu, samples, calibrated, seconds)


def qdm(checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device, *, counted: bool = False) -> Qdm:
    """Make a method of the checkpoint as it is.

    Raises:
        CheckpointError: If it was not trained for the scale.
        ConfigError: If steps or threshold are out of range.
    """
    upscaler = Upscaler(checkpoint, options, device=device)
    samples = "" if upscaler.samples == 1 else f"mean of {upscaler.samples}, "
    name = f"{checkpoint.card.name}, {samples}{upscaler.steps} steps"
    if checkpoint.require_denoiser().config.has_mask:
        kind = "" if upscaler.quadtree.kind == "paper" else f"{upscaler.quadtree.kind}, "
        name = f"{name}, {kind}s = {upscaler.quadtree.threshold:g}"
    counting = Counting.of(checkpoint, options, device) if counted else None
    return Qdm(f"{name}{_consistency(upscaler)}", upscaler, counting)


def sampled(checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device, samples: int) -> Qdm:
    """Make a method of the mean of so many samples, with their standard deviation.

    Raises:
        ConfigError: For fewer than two samples, which have no standard deviation.
    """
    if samples < 2:
        raise ConfigError(f"samples must be at least 2 for a standard deviation, got {samples}")
    one = qdm(checkpoint, replace(options, samples=1), device)
    upscaler = Upscaler(checkpoint, replace(options, samples=samples), device=device)
    return Qdm(f"{one.name}, mean of {samples} samples", upscaler, spread=True)


def _consistency(upscaler: Upscaler) -> str:
    """Suffix of a name for its consistency; empty for ``upscale``'s default."""
    consistency = upscaler.options.consistency
    return "" if consistency == DEFAULT_CONSISTENCY[upscaler.card.purpose] else f", consistency {consistency}"


def dense(checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device, *, counted: bool = False) -> Qdm:
    """Make a method with every leaf active (s = 0), to see the effect of sparsity."""
    return qdm(checkpoint, replace(options, threshold=0.0), device, counted=counted)


def downstream_only(checkpoint: Checkpoint, options: UpscaleOptions, device: torch.device) -> Qdm:
    """Make a method of the downstream alone: every leaf active, the upstream's answer and its context tokens zero.

    The paper's downstream-only row is a network trained without the upstream; this one only loses it when it is run.
    """
    if checkpoint.denoiser is None:
        return dense(checkpoint, options, device)  # which says what is missing
    if not isinstance(checkpoint.denoiser, TwoStreamDenoiser):
        raise CheckpointError(f"model {checkpoint.card.name} has one stream; leave downstream-only out of --methods")
    silent = copy.deepcopy(checkpoint.denoiser)
    silent.upstream.register_forward_hook(_silence)
    alone = dense(replace(checkpoint, denoiser=silent), options, device)
    name = f"{checkpoint.card.name}, {alone.upscaler.steps} steps, downstream only (not retrained)"
    return replace(alone, name=f"{name}{_consistency(alone.upscaler)}")


def _silence(module: nn.Module, inputs: Any, answers: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    coarse, context = answers
    return torch.zeros_like(coarse), torch.zeros_like(context)
