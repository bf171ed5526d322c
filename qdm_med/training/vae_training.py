"""Training of the KL autoencoder on crops of CT slices (paper section 4: trained on the medical set first)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.checkpoint import ModelCard, save_checkpoint
from qdm_med.data.slices import SliceStore
from qdm_med.errors import DataError
from qdm_med.evaluation.metrics import mae_hu, psnr
from qdm_med.evaluation.tissues import SOFT_TISSUE_HU
from qdm_med.intensity import CompandedRange, HuWindow
from qdm_med.models.autoencoder import AutoencoderConfig, KlVae
from qdm_med.training.task import Share, Validation, require_item_for_every_process


@dataclass(frozen=True)
class VaeTrainingConfig:
    """What the autoencoder is trained to do.

    Attributes:
        crop: Side of the training crops in pixels, a multiple of 4.
        l1_weight: Weight of the absolute error.
        mse_weight: Weight of the squared error; it brings the error down fastest at the start.
        kl_weight: Weight of the KL divergence from a standard normal, in nats a pixel.
        validation_slices: Slices of the validation split that are measured, evenly spaced.
    """

    crop: int = 128
    l1_weight: float = 1.0
    mse_weight: float = 2.0
    kl_weight: float = 1e-5
    validation_slices: int = 16


class VaeObjective(nn.Module):
    """Autoencoder with its losses, so that one forward serves single and distributed training."""

    def __init__(self, autoencoder: KlVae, config: VaeTrainingConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.config = config

    def forward(self, batch: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        """Losses of a batch: ``(B, 1, H, W)`` images in [-1, 1] and standard normal noise for the posterior."""
        image, noise = batch
        mean, std = self.autoencoder.posterior(image)
        decoded = self.autoencoder.decode_posterior(mean + std * noise)
        l1, mse = F.l1_loss(decoded, image), F.mse_loss(decoded, image)
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum() / image.numel()
        loss = self.config.l1_weight * l1 + self.config.mse_weight * mse + self.config.kl_weight * kl
        return {"loss": loss, "l1": l1, "mse": mse, "kl": kl}


class VaeTask:
    """The autoencoder's batches, validation and checkpoint."""

    may_skip_parameters = False

    def __init__(
        self,
        store: SliceStore,
        shape: AutoencoderConfig,
        config: VaeTrainingConfig,
        intensity: HuWindow | CompandedRange,
        *,
        name: str,
        batch: int,
        seed: int,
        device: torch.device,
    ) -> None:
        if config.crop % 4 or not 4 <= config.crop <= min(store.slice_shape):
            raise DataError(f"crop must be a multiple of 4 up to {min(store.slice_shape)}, got {config.crop}")
        require_item_for_every_process(batch)
        torch.manual_seed(seed)  # initial weights only; everything later has a generator of its own
        self.objective = VaeObjective(KlVae(shape), config).to(device).to(memory_format=torch.channels_last)
        self._store, self._config, self._intensity = store, config, intensity
        self._name, self._batch, self._seed, self._device = name, batch, seed, device
        self._train, self._val = store.indices("train"), store.indices("val")

    def size(self, step: int) -> int:
        """Crops in every batch."""
        return self._batch

    def batch(self, step: int, share: Share) -> tuple[Tensor, Tensor]:
        """A share of the crops of ``step``, and the noise of their posteriors."""
        items = share.items(self._batch)
        crops = np.stack([self._crop(step, item) for item in items])
        image = torch.from_numpy(self._intensity.to_unit(crops))[:, None]
        z, side = self.objective.autoencoder.config.latent_channels, self._config.crop // 4
        noise = [np.random.default_rng([self._seed, 1, step, item]).standard_normal((z, side, side)) for item in items]
        posterior_noise = torch.from_numpy(np.stack(noise).astype(np.float32))
        return (
            image.to(self._device).contiguous(memory_format=torch.channels_last),
            posterior_noise.to(self._device),
        )

    def _crop(self, step: int, item: int) -> np.ndarray[Any, Any]:
        rng = np.random.default_rng([self._seed, 0, step, item])
        hu = self._store.hu(self._train[rng.integers(len(self._train))])
        row, column = (int(rng.integers(length - self._config.crop + 1)) for length in hu.shape)
        crop = hu[row : row + self._config.crop, column : column + self._config.crop]
        return crop[:, ::-1] if rng.random() < 0.5 else crop

    @torch.no_grad()
    def validate(self, objective: VaeObjective) -> Validation:
        """PSNR in the network's range (data range 2) and error in HU, posterior mean, full slices."""
        stride = max(1, len(self._val) // self._config.validation_slices)
        ratios, soft = [], []
        for index in self._val[::stride]:
            hu = self._store.hu(index)
            image = torch.from_numpy(self._intensity.to_unit(hu))[None, None].to(self._device)
            mean, _ = objective.autoencoder.posterior(image)
            decoded = objective.autoencoder.decode_posterior(mean).clamp(-1, 1)
            ratios.append(float(psnr(decoded, image)))
            soft.append(mae_hu(self._intensity.to_hu(decoded[0, 0].cpu().numpy()), hu, SOFT_TISSUE_HU))
        return Validation({"psnr": float(np.mean(ratios)), "soft_tissue_mae_hu": float(np.mean(soft))})

    def export(self, objective: VaeObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Measure the latents' statistics on the training split and write the checkpoint."""
        autoencoder = objective.autoencoder
        mean, std = self._latent_statistics(autoencoder)
        autoencoder.set_latent_statistics(mean, std)
        card = ModelCard(
            name=self._name,
            autoencoder=autoencoder.config,
            intensity=self._intensity,
            training={
                "task": "autoencoder",
                "slices": len(self._train),
                "patient_keys": self._store.patients("train"),
                **training,
            },
        )
        save_checkpoint(path, card, autoencoder)

    @torch.no_grad()
    def _latent_statistics(self, autoencoder: KlVae) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel over evenly spaced training slices."""
        means = []
        for index in self._train[:: max(1, len(self._train) // 32)]:
            image = torch.from_numpy(self._intensity.to_unit(self._store.hu(index)))[None, None].to(self._device)
            means.append(autoencoder.posterior(image)[0].transpose(0, 1).flatten(1))
        latents = torch.cat(means, dim=1)
        return latents.mean(dim=1), latents.std(dim=1)
