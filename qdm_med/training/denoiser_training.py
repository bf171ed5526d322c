"""Training of the two-stream denoiser with the dual-stream objective (paper Eq. 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med import distributed
from qdm_med.checkpoint import Checkpoint, ModelCard, save_checkpoint
from qdm_med.data.degradation import BENCHMARK, TRAINING
from qdm_med.data.pairs import PairSampler, full_pairs
from qdm_med.data.slices import SliceStore
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.process import diffuse, scale_input
from qdm_med.diffusion.schedule import ResidualShiftSchedule, ScheduleConfig, trailing_timesteps
from qdm_med.errors import ConfigError
from qdm_med.inference.super_resolution import slice_draws, super_resolve
from qdm_med.models.autoencoder import DOWNSAMPLING
from qdm_med.models.conditioning import Conditioning, condition, upsample
from qdm_med.models.denoiser import DenoiserConfig, TwoStreamDenoiser


@dataclass(frozen=True)
class DenoiserTrainingConfig:
    """What the denoiser is trained to do.

    Attributes:
        crops: Sides of the training crops in pixels; one is drawn a batch. Larger crops come in smaller batches, so
            that every batch has as many pixels as the loop's ``batch`` of the first.
        crop_weights: How often each crop is drawn, in relative numbers.
        thresholds: Quadtree thresholds; one is drawn a batch, so that the network is trained as it is run.
        benchmark_share: Share of the batches degraded as the benchmarks are; the others with the training range.
        downstream_weight: lambda_1 of Eq. 6, on the merged answer (which is the downstream's where it is used).
        upstream_weight: lambda_2 of Eq. 6.
        decoded_weight: Weight of the squared error of the decoded merged answer, in the network's range: the pixel
            counterpart of Eq. 7's perceptual term. 0: none, as in the paper's medical training.
        perceptual_weight: lambda_3 of Eq. 7: weight of the LPIPS of the decoded merged answer (0.1 in the paper); needs
            an LPIPS backbone. 0: none. Inactive leaves take no part in it: without noise the network could answer it
            there with a regular pattern only.
        last_timestep_share: Share of the items trained at the last timestep, where every chain starts and a chain of
            one step also ends; the others are drawn evenly from all timesteps.
        validation_slices: Slices of the validation split that are super-resolved, evenly spaced.
    """

    crops: tuple[int, ...] = (512,)
    crop_weights: tuple[float, ...] = (1.0,)
    thresholds: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.15, 0.3)
    benchmark_share: float = 0.5
    downstream_weight: float = 1.0
    upstream_weight: float = 1.0
    decoded_weight: float = 0.0
    perceptual_weight: float = 0.0
    last_timestep_share: float = 0.0
    validation_slices: int = 6

    def __post_init__(self) -> None:
        """Check that every crop has its weight."""
        if not self.crops or len(self.crops) != len(self.crop_weights):
            raise ConfigError(
                f"crop_weights {self.crop_weights} must give one number for each of the crops {self.crops}"
            )


Distance = Callable[[Tensor, Tensor], Tensor]
"""``(B, 1, H, W)`` image and reference in [-1, 1] -> ``(B,)`` differentiable distances, such as LPIPS."""


class DenoiserBatch(NamedTuple):
    """One training batch, in the latent space.

    Attributes:
        high_res: ``(B, 1, H, W)`` high-resolution crops in [-1, 1].
        z_0: ``(B, C, h, w)`` their latents.
        known: What the denoiser is told.
        t: ``(B,)`` timesteps.
        noise: ``(B, C, h, w)`` standard normal.
    """

    high_res: Tensor
    z_0: Tensor
    known: Conditioning
    t: Tensor
    noise: Tensor


class DenoiserObjective(nn.Module):
    """Denoiser with its losses, so that one forward serves single and distributed training."""

    def __init__(
        self,
        denoiser: TwoStreamDenoiser,
        schedule: ResidualShiftSchedule,
        config: DenoiserTrainingConfig,
        decode: Callable[[Tensor], Tensor],
        perceptual: Distance | None = None,
    ) -> None:
        super().__init__()
        if config.perceptual_weight and perceptual is None:
            raise ConfigError("perceptual_weight needs an LPIPS backbone; give --lpips-backbone or set it to 0")
        self.denoiser = denoiser
        self.schedule, self.config = schedule, config
        self._decode, self._perceptual = decode, (perceptual,)  # a tuple: its weights are not ours to train or save

    def forward(self, batch: DenoiserBatch) -> dict[str, Tensor]:
        """Eq. 6, and Eq. 7's term on the decoded image where it has a weight."""
        high_res, z_0, known, t, noise = batch
        z_t = diffuse(self.schedule, z_0, known.z_y, t, known.mask, noise)
        said = self.denoiser(scale_input(self.schedule, z_t, t), t, known.low_res, known.z_y, known.plan)
        merged, upstream = F.mse_loss(said.merged, z_0), F.mse_loss(said.upstream, z_0)
        loss = self.config.downstream_weight * merged + self.config.upstream_weight * upstream
        losses = {"merged": merged, "upstream": upstream}
        if self.config.decoded_weight or self.config.perceptual_weight:
            image = self._decode(said.merged)
            losses["decoded"] = F.mse_loss(image, high_res)
            loss = loss + self.config.decoded_weight * losses["decoded"]
            if self.config.perceptual_weight and (distance := self._perceptual[0]) is not None:
                pixels = known.mask.repeat_interleave(DOWNSAMPLING, 2).repeat_interleave(DOWNSAMPLING, 3)
                losses["perceptual"] = distance(torch.where(pixels, image, high_res), high_res).mean()
                loss = loss + self.config.perceptual_weight * losses["perceptual"]
        return {"loss": loss, **losses}


class DenoiserTask:
    """The denoiser's batches, validation and checkpoint."""

    def __init__(
        self,
        store: SliceStore,
        base: Checkpoint,
        shape: DenoiserConfig,
        config: DenoiserTrainingConfig,
        schedule: ScheduleConfig,
        *,
        name: str,
        scales: tuple[int, ...],
        threshold: float,
        steps: tuple[int, ...],
        batch: int,
        seed: int,
        device: torch.device,
        perceptual: Distance | None = None,
    ) -> None:
        if shape.latent_channels != base.card.autoencoder.latent_channels:
            raise ConfigError(
                f"latent_channels is {shape.latent_channels}, but the autoencoder {base.card.name} has "
                f"{base.card.autoencoder.latent_channels}; set denoiser.latent_channels to that"
            )
        torch.manual_seed(seed)  # initial weights only; everything later has a generator of its own
        self._schedule = ResidualShiftSchedule.from_config(schedule)
        self._autoencoder = base.autoencoder.to(device).requires_grad_(False)
        denoiser = TwoStreamDenoiser(shape).to(device)
        self.objective = DenoiserObjective(denoiser, self._schedule, config, self._autoencoder.decode, perceptual)
        self._store, self._config, self._device = store, config, device
        self._batch, self._seed, self._vae_hash = batch, seed, base.sha256
        self._card = ModelCard(
            name, base.card.autoencoder, shape, schedule, base.card.intensity, scales, threshold, steps
        )
        self._samplers = {
            (crop, family): PairSampler(
                store,
                split="train",
                crop=crop,
                scales=scales,
                degradation=degradation,
                intensity=base.card.intensity,
                seed=seed,
            )
            for crop in config.crops
            for family, degradation in (("benchmark", BENCHMARK), ("training", TRAINING))
        }

    def batch(self, step: int) -> DenoiserBatch:
        """This process's share of the pairs of ``step``, encoded, with their timesteps and noise."""
        rng = np.random.default_rng([self._seed, 1, step])
        weights = np.asarray(self._config.crop_weights) / sum(self._config.crop_weights)
        crop = int(rng.choice(self._config.crops, p=weights))
        family = "benchmark" if rng.random() < self._config.benchmark_share else "training"
        threshold = float(rng.choice(self._config.thresholds))
        world, rank = distributed.world_size(), distributed.rank()
        size = max(world, self._batch * self._config.crops[0] ** 2 // crop**2)
        pairs = self._samplers[crop, family].batch(step, size, rank=rank, world_size=world)
        low_res, high_res = pairs.low_res.to(self._device), pairs.high_res.to(self._device)
        known = condition(self._autoencoder, self.objective.denoiser, low_res, scale=pairs.scale, threshold=threshold)
        with torch.no_grad():
            z_0 = self._autoencoder.encode(high_res)
        items = [np.random.default_rng([self._seed, 2, step, item]) for item in range(rank, size, world)]
        t = torch.tensor([self._draw_timestep(item) for item in items], device=self._device)
        noise = np.stack([item.standard_normal(z_0.shape[1:], dtype=np.float32) for item in items])
        return DenoiserBatch(high_res, z_0, known, t, torch.from_numpy(noise).to(self._device))

    def _draw_timestep(self, rng: np.random.Generator) -> int:
        timestep = int(rng.integers(len(self._schedule)))
        return len(self._schedule) - 1 if rng.random() < self._config.last_timestep_share else timestep

    @torch.no_grad()
    def validate(self, objective: DenoiserObjective) -> dict[str, float]:
        """PSNR (data range 2) of samples at the card's steps, and of bicubic, on whole validation slices."""
        figures: dict[str, float] = {}
        for scale, steps in zip(self._card.scales, self._card.steps, strict=True):
            schedule = self._schedule.respaced(trailing_timesteps(len(self._schedule), steps))
            stride = max(1, len(self._store.indices("val")) // self._config.validation_slices)
            ours, bicubic = [], []
            for number, pair in enumerate(
                full_pairs(self._store, "val", scale, BENCHMARK, intensity=self._card.intensity)
            ):
                if number % stride:
                    continue
                image = self._super_resolve(objective.denoiser, pair.low_res, scale, schedule, pair.record.sha256)
                ours.append(_psnr(image, pair.high_res))
                bicubic.append(_psnr(upsample(pair.low_res, scale).clamp(-1, 1), pair.high_res))
            figures[f"psnr_x{scale}"] = float(np.mean(ours))
            figures[f"bicubic_x{scale}"] = float(np.mean(bicubic))
        return figures

    def _super_resolve(
        self, denoiser: TwoStreamDenoiser, low_res: Tensor, scale: int, schedule: ResidualShiftSchedule, key: str
    ) -> Tensor:
        draws = slice_draws(
            SliceNoise(self._seed, key, 0.0),
            (low_res.shape[-2], low_res.shape[-1]),
            channels=self._card.autoencoder.latent_channels,
            scale=scale,
            device=self._device,
        )
        return super_resolve(
            self._autoencoder,
            denoiser,
            low_res.to(self._device),
            scale=scale,
            schedule=schedule,
            threshold=self._card.threshold,
            noise=draws,
        ).image.cpu()

    def export(self, objective: DenoiserObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Write autoencoder and averaged denoiser as one checkpoint."""
        patients = {self._store.records[index].patient for index in self._store.indices("train")}
        data = {
            "task": "denoiser",
            "slices": len(self._store.indices("train")),
            "patients": len(patients),
            "sources": sorted({record.source for record in self._store.records}),
            "store": hashlib.sha256("".join(record.sha256 for record in self._store.records).encode()).hexdigest(),
            "autoencoder_sha256": self._vae_hash,
        }
        card = replace(self._card, training={**data, **training})
        save_checkpoint(path, card, self._autoencoder, objective.denoiser)


def _psnr(image: Tensor, reference: Tensor) -> float:
    return float(10 * torch.log10(4 / F.mse_loss(image, reference)))
