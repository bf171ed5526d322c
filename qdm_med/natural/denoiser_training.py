"""Training of QDM on photographs: Eq. 6 at s = 0, then Eq. 7 with LPIPS of the decoded answer (arXiv 2503.12015, section 4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from qdm_med import keys
from qdm_med.data.degradation.second_order import degrade_second_order, sample_second_order
from qdm_med.data.degradation.second_order_params import SecondOrderConfig
from qdm_med.diffusion.schedule import ResidualShiftSchedule
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import psnr
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.conditioning import active_leaves, condition, leaf_grid
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.models.qdm.quadtree import PaperQuadtree
from qdm_med.natural.checkpoint import NaturalCard, NaturalCheckpoint, save_natural
from qdm_med.natural.pairs import degraded_pair
from qdm_med.natural.photos import PhotoStore, centre_crop
from qdm_med.natural.tile import TileModel
from qdm_med.resample import upsample
from qdm_med.training.objective import DenoiserBatch, DenoiserObjective, DenoiserTrainingConfig
from qdm_med.training.task import Run, Sample, Share, Validation, require_item_for_every_process

SHOWN = 4
"""Validation photographs that the picture shows."""


@dataclass(frozen=True)
class NaturalTrainingConfig:
    """Training of the denoiser: its losses and its pairs.

    Attributes:
        crop: Side of the training crops in pixels.
        resized_share: Share of the photographs whose shorter side is first resized to the crop's.
        degradation: Both stages of Real-ESRGAN, which make the low-resolution images.
        thresholds: Quadtree thresholds; one is drawn a batch.
        downstream_weight: lambda_1 of Eq. 6.
        upstream_weight: lambda_2 of Eq. 6.
        decoded_weight: Weight of the squared error of the decoded answer. 0: none, as in the paper.
        perceptual_weight: lambda_3 of Eq. 7; needs an LPIPS backbone. 0: none.
        last_timestep_share: Share of the items trained at the last timestep, where every chain starts.
        validation_photos: Photographs of the validation folder that are super-resolved, their middles.
    """

    crop: int = 512
    resized_share: float = 0.5
    degradation: SecondOrderConfig = SecondOrderConfig()
    thresholds: tuple[float, ...] = (0.0,)
    downstream_weight: float = 1.0
    upstream_weight: float = 1.0
    decoded_weight: float = 0.0
    perceptual_weight: float = 0.0
    last_timestep_share: float = 0.0
    validation_photos: int = 8

    def __post_init__(self) -> None:
        """Reject crops that the degradation cannot blur."""
        if self.crop < self.degradation.smallest_side:
            raise ConfigError(
                f"crop {self.crop} is too small to degrade; take at least {self.degradation.smallest_side}"
            )

    @property
    def objective(self) -> DenoiserTrainingConfig:
        """The same losses, in the terms of the objective that all denoisers share."""
        return DenoiserTrainingConfig(
            downstream_weight=self.downstream_weight,
            upstream_weight=self.upstream_weight,
            decoded_weight=self.decoded_weight,
            perceptual_weight=self.perceptual_weight,
        )


class DrawnPhotos(NamedTuple):
    """Everything random of a share of a batch, on the CPU.

    Attributes:
        high_res: ``(B, 3, H, W)`` crops of photographs in [-1, 1].
        low_res: ``(B, 3, H / scale, W / scale)`` what they were degraded to.
        t: ``(B,)`` timesteps.
        noise: ``(B, C, h, w)`` standard normal, of the latents' shape.
        threshold: Quadtree threshold of the step.
    """

    high_res: Tensor
    low_res: Tensor
    t: Tensor
    noise: Tensor
    threshold: float


class NaturalTask:
    """Training task of the denoiser: batches, validation and checkpoint."""

    may_skip_parameters = True  # the downstream's, where no leaf is active

    def __init__(
        self,
        card: NaturalCard,
        config: NaturalTrainingConfig,
        run: Run[PhotoStore],
        base: NaturalCheckpoint,
        initial: NaturalCheckpoint | None = None,
    ) -> None:
        shape = _serving(card, base)
        if config.crop % card.scale:
            raise ConfigError(f"crop {config.crop} must be a multiple of the scale, {card.scale}")
        require_item_for_every_process(run.batch)
        run.store.require(config.validation_photos, config.crop)
        keys.seed_initial_weights(run.seed)
        self._schedule = ResidualShiftSchedule.from_config(card.schedule)
        self._autoencoder = base.autoencoder.to(run.device).requires_grad_(False)
        denoiser = TwoStreamDenoiser(shape).to(run.device)
        if initial is not None:
            _start_from(denoiser, initial)
        self.objective = DenoiserObjective(
            denoiser, self._schedule, config.objective, self._autoencoder.decode, run.perceptual
        )
        self.players: Mapping[str, nn.Module] = {"loss": denoiser}
        self._store, self._config, self._perceptual = run.store, config, run.perceptual
        self._batch, self._seed, self._device = run.batch, run.seed, run.device
        hashes = {"autoencoder_sha256": base.sha256, "initial_sha256": initial.sha256 if initial else None}
        self._card = replace(card, autoencoder=base.card.autoencoder, training=hashes)

    def size(self, step: int) -> int:
        """Number of items in every batch."""
        return self._batch

    def draw(self, step: int, share: Share) -> DrawnPhotos:
        """Make a share of the pairs of ``step``, with their timesteps and noise."""
        scale, config = self._card.scale, self._config
        items = [keys.rng(self._seed, "crop", step, item) for item in share.items(self._batch)]
        high_res = torch.stack([self._store.crop(rng, config.crop, config.resized_share) for rng in items])
        params = [sample_second_order(config.degradation, scale, rng) for rng in items]
        low_res = degrade_second_order(high_res, params)
        t = torch.tensor([self._draw_timestep(rng) for rng in items])
        shape = (self._card.autoencoder.latent_channels, config.crop // DOWNSAMPLING, config.crop // DOWNSAMPLING)
        noise = torch.from_numpy(np.stack([rng.standard_normal(shape, dtype=np.float32) for rng in items]))
        threshold = float(keys.rng(self._seed, "step", step).choice(config.thresholds))
        return DrawnPhotos(high_res, low_res, t, noise, threshold)

    def batch(self, drawn: DrawnPhotos) -> DenoiserBatch:
        """Bring a share to the device, its photographs encoded."""
        high_res, low_res, t, noise = (tensor.to(self._device) for tensor in drawn[:4])
        with torch.no_grad():
            z_0 = self._autoencoder.encode(high_res)
        scale = self._card.scale
        grid = leaf_grid((low_res.shape[-2], low_res.shape[-1]), scale, self.objective.denoiser.config.downstream_patch)
        leaves = active_leaves(low_res, PaperQuadtree(drawn.threshold), grid)
        known = condition(self._autoencoder, self.objective.denoiser, low_res, leaves, scale=scale)
        return DenoiserBatch(high_res, z_0, known, t, noise)

    def _draw_timestep(self, rng: np.random.Generator) -> int:
        timestep = int(rng.integers(len(self._schedule)))
        return len(self._schedule) - 1 if rng.random() < self._config.last_timestep_share else timestep

    @torch.no_grad()
    def validate(self, objective: DenoiserObjective) -> Validation:
        """Measure PSNR (data range 2) and LPIPS, if there is one, of samples and of bicubic, on middles of photographs."""
        denoiser = objective.denoiser
        if not isinstance(denoiser, TwoStreamDenoiser):
            raise TypeError("the objective was made with a two-stream denoiser")
        model = TileModel(self._autoencoder, denoiser, self._card, device=self._device, seed=self._seed)
        found: dict[str, list[float]] = {}
        samples: list[Sample] = []
        for path in self._store.val[: self._config.validation_photos]:
            image = centre_crop(self._store.photo(path), self._config.crop)
            pair = degraded_pair(image, self._config.degradation, scale=self._card.scale, seed=self._seed)
            answer = model.whole(pair.low_res[0], pair.key)[None].cpu()
            bicubic = upsample(pair.low_res, self._card.scale).clamp(-1, 1)
            for name, made in (("", answer), ("bicubic_", bicubic)):
                for figure, value in self._figures(made, pair.high_res).items():
                    found.setdefault(f"{name}{figure}_x{self._card.scale}", []).append(value)
            if len(samples) < SHOWN:
                grey = (each[0].mean(dim=0) for each in (bicubic, answer, pair.high_res))
                samples.append(Sample(path.stem, *grey))
        return Validation({name: float(np.mean(values)) for name, values in found.items()}, tuple(samples))

    def _figures(self, made: Tensor, reference: Tensor) -> dict[str, float]:
        figures = {"psnr": float(psnr(made, reference))}
        if self._perceptual is not None:
            figures["lpips"] = float(self._perceptual(made.to(self._device), reference.to(self._device)))
        return figures

    def export(self, objective: DenoiserObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Write VQGAN and averaged denoiser as one checkpoint."""
        denoiser = objective.denoiser
        if not isinstance(denoiser, TwoStreamDenoiser):
            raise TypeError("the objective was made with a two-stream denoiser")
        data = {**self._card.training, "task": "denoiser", "photographs": len(self._store.train)}
        save_natural(path, replace(self._card, training={**data, **training}), self._autoencoder, denoiser)


def _serving(card: NaturalCard, base: NaturalCheckpoint) -> DenoiserConfig:
    """Shape of the denoiser, after checking that it fits the VQGAN and sees three channels."""
    shape = card.denoiser
    if shape is None:
        raise ConfigError(f"experiment {card.name} has no denoiser; take one such as configs/natural_s_x4.yaml")
    if shape.latent_channels != base.card.autoencoder.latent_channels:
        raise ConfigError(
            f"latent_channels is {shape.latent_channels}, but the VQGAN {base.card.name} has "
            f"{base.card.autoencoder.latent_channels}; set latent_channels to that"
        )
    if shape.condition_channels != 3:
        raise ConfigError(f"condition_channels must be 3 for photographs, got {shape.condition_channels}")
    return shape


def _start_from(denoiser: TwoStreamDenoiser, initial: NaturalCheckpoint) -> None:
    if initial.denoiser is None or initial.denoiser.config != denoiser.config:
        raise ConfigError(f"model {initial.card.name} has no denoiser of the configured shape; start without --init")
    denoiser.load_state_dict(initial.denoiser.state_dict())
