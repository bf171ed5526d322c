"""Training of the KL autoencoder on crops of CT slices (arXiv 2503.12015, section 4: trained on the medical set first)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.checkpoints.model import ModelCard, save_checkpoint
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError, DataError
from qdm_med.evaluation.measures.metrics import mae_hu, psnr, ssim
from qdm_med.evaluation.measures.tissues import SOFT_TISSUE_HU
from qdm_med.keys import rng, seed_initial_weights
from qdm_med.models.autoencoder.kl_vae import KlVae
from qdm_med.training.adversary import PatchAdversary
from qdm_med.training.task import Distance, Run, Share, Validation, require_item_for_every_process


@dataclass(frozen=True)
class VaeTrainingConfig:
    """Training of the autoencoder: its losses and its crops.

    Attributes:
        crop: Side of the training crops in pixels, a multiple of 4.
        l1_weight: Weight of the absolute error.
        mse_weight: Weight of the squared error; it brings the error down fastest at the start.
        kl_weight: Weight of the KL divergence from a standard normal, in nats a pixel.
        perceptual_weight: Weight of the perceptual distance of the decoded crop. 0: none.
        perceptual: That distance: ``"lpips"``, which needs an LPIPS backbone, or ``"ssim"``, one less the structural
            similarity, which needs no weights.
        adversarial_weight: Weight of the loss of not deceiving a PatchGAN discriminator. 0: there is no discriminator.
        adversarial_start: Step, counted from 0, from which autoencoder and discriminator play against each other.
        discriminator_channels: Width of the discriminator's first layer; each further one doubles it.
        discriminator_layers: Its layers behind the first; three see patches of 70 pixels.
        validation_slices: Slices of the validation split that are measured, evenly spaced.
        latent_scale: Factor of all latents, without a shift (the paper's medical 0.1). ``None``: each channel is brought to
            mean 0 and deviation 1 by what is measured on the training split.
    """

    crop: int = 128
    l1_weight: float = 1.0
    mse_weight: float = 2.0
    kl_weight: float = 1e-5
    perceptual_weight: float = 0.0
    perceptual: Literal["lpips", "ssim"] = "lpips"
    adversarial_weight: float = 0.0
    adversarial_start: int = 0
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    validation_slices: int = 16
    latent_scale: float | None = None

    def __post_init__(self) -> None:
        """Reject negative weights, and a discriminator that cannot be or does not fit the crops."""
        for name in ("perceptual_weight", "adversarial_weight", "adversarial_start"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        for name in ("discriminator_channels", "discriminator_layers"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.latent_scale is not None and self.latent_scale <= 0:
            raise ConfigError(f"latent_scale must be positive, got {self.latent_scale}")
        smallest = PatchAdversary.smallest_side(self.discriminator_layers)
        if self.adversarial_weight and self.crop < smallest:
            raise ConfigError(
                f"crop {self.crop} is too small for a discriminator of {self.discriminator_layers} layers; "
                f"take at least {smallest} or fewer discriminator_layers"
            )


class VaeBatch(NamedTuple):
    """One training batch.

    Attributes:
        image: ``(B, 1, H, W)`` crops in [-1, 1].
        noise: ``(B, Z, H / 4, W / 4)`` standard normal, for the posterior.
        adversarial: Whether autoencoder and discriminator play against each other in this step.
    """

    image: Tensor
    noise: Tensor
    adversarial: bool = False


def structural_distance(first: Tensor, second: Tensor) -> Tensor:
    """1 minus the structural similarity of ``(B, C, H, W)`` images in [-1, 1], ``(B,)``, as it is evaluated."""
    with torch.autocast(first.device.type, enabled=False):  # its variances are differences of nearly equal numbers
        return 1 - ssim(first, second)


class VaeObjective(nn.Module):
    """Autoencoder and, if it has one, its adversary, with the losses of both.

    One forward serves both players, and single as well as distributed training: each loss has a gradient in its own
    player's weights alone, so that one backward of their sum gives both gradients.
    """

    def __init__(
        self,
        autoencoder: KlVae,
        config: VaeTrainingConfig,
        adversary: PatchAdversary | None = None,
        perceptual: Distance | None = None,
    ) -> None:
        super().__init__()
        if config.perceptual_weight and perceptual is None:
            raise ConfigError(
                "vae.perceptual_weight needs an LPIPS backbone; give --lpips-backbone, or set vae.perceptual to ssim"
            )
        self.autoencoder = autoencoder
        self.adversary = adversary
        self.config = config
        self._perceptual = (perceptual,)  # a tuple: its weights are not ours to train or save

    def forward(self, batch: VaeBatch) -> dict[str, Tensor]:
        """Compute the autoencoder's ``"loss"`` with its terms, and the ``"discriminator"``'s where both play."""
        image, noise, adversarial = batch
        mean, std = self.autoencoder.posterior(image)
        decoded = self.autoencoder.decode_posterior(mean + std * noise)
        target = image.expand_as(decoded)  # grey, repeated for an autoencoder of three channels
        l1, mse = F.l1_loss(decoded, target), F.mse_loss(decoded, target)
        kl = 0.5 * (mean**2 + std**2 - 1 - 2 * std.log()).sum() / image.numel()
        loss = self.config.l1_weight * l1 + self.config.mse_weight * mse + self.config.kl_weight * kl
        losses = {"l1": l1, "mse": mse, "kl": kl}
        if self.config.perceptual_weight and (distance := self._perceptual[0]) is not None:
            losses["perceptual"] = distance(decoded, target).mean()
            loss = loss + self.config.perceptual_weight * losses["perceptual"]
        if adversarial and self.adversary is not None:
            losses["adversarial"] = self.adversary.deceived(decoded)
            loss = loss + self.config.adversarial_weight * losses["adversarial"]
            losses["discriminator"] = self.adversary.told_apart(target, decoded)
        return {"loss": loss, **losses}


class VaeTask:
    """Training task of the autoencoder: batches, validation and checkpoint.

    Args:
        card: Description of the autoencoder in training, a model without a denoiser.
        config: Losses and crops of the training.
        run: Data, batch, seed and device.

    Raises:
        ConfigError: If a batch would leave a process without an item, or a perceptual term has no distance.
        DataError: If the crop does not fit the slices.
    """

    def __init__(self, card: ModelCard, config: VaeTrainingConfig, run: Run[SliceStore]) -> None:
        smallest = min(run.store.slice_shape)
        if config.crop % 4 or not 4 <= config.crop <= smallest:
            raise DataError(f"crop must be a multiple of 4 up to {smallest}, got {config.crop}")
        require_item_for_every_process(run.batch)
        seed_initial_weights(run.seed)
        autoencoder, adversary = KlVae(card.autoencoder), None
        if config.adversarial_weight:
            channels, layers = config.discriminator_channels, config.discriminator_layers
            adversary = PatchAdversary(card.autoencoder.image_channels, channels, layers)
        perceptual = structural_distance if config.perceptual == "ssim" else run.perceptual
        objective = VaeObjective(autoencoder, config, adversary, perceptual)
        self.objective = objective.to(run.device).to(memory_format=torch.channels_last)
        self.players: Mapping[str, nn.Module] = {"loss": autoencoder}
        if adversary is not None:
            self.players = {"loss": autoencoder, "discriminator": adversary}
        self.may_skip_parameters = adversary is not None  # the adversary's, before it plays
        self._card, self._config, self._intensity = card, config, card.intensity
        self._store, self._batch, self._seed, self._device = run.store, run.batch, run.seed, run.device
        self._train, self._val = run.store.indices("train"), run.store.indices("val")

    def size(self, step: int) -> int:
        """Number of crops in every batch."""
        return self._batch

    def draw(self, step: int, share: Share) -> VaeBatch:
        """Cut a share of the crops of ``step``, with the noise of their posteriors."""
        items = share.items(self._batch)
        crops = np.stack([self._crop(step, item) for item in items])
        image = torch.from_numpy(self._intensity.to_unit(crops))[:, None]
        z, side = self.objective.autoencoder.config.latent_channels, self._config.crop // 4
        noise = [rng(self._seed, "posterior", step, item).standard_normal((z, side, side)) for item in items]
        posterior_noise = torch.from_numpy(np.stack(noise).astype(np.float32))
        return VaeBatch(
            image,
            posterior_noise,
            adversarial=self._config.adversarial_weight > 0 and step >= self._config.adversarial_start,
        )

    def batch(self, drawn: VaeBatch) -> VaeBatch:
        """Bring crops and noise to the device."""
        image = drawn.image.to(self._device).contiguous(memory_format=torch.channels_last)
        return drawn._replace(image=image, noise=drawn.noise.to(self._device))

    def _crop(self, step: int, item: int) -> np.ndarray[Any, Any]:
        own = rng(self._seed, "autoencoder crop", step, item)
        hu = self._store.hu(self._train[own.integers(len(self._train))])
        row, column = (int(own.integers(length - self._config.crop + 1)) for length in hu.shape)
        crop = hu[row : row + self._config.crop, column : column + self._config.crop]
        return crop[:, ::-1] if own.random() < 0.5 else crop

    @torch.no_grad()
    def validate(self, objective: VaeObjective) -> Validation:
        """Measure PSNR (data range 2) and the error in HU of the posterior mean, on full slices."""
        stride = max(1, len(self._val) // self._config.validation_slices)
        ratios, soft = [], []
        for index in self._val[::stride]:
            hu = self._store.hu(index)
            image = torch.from_numpy(self._intensity.to_unit(hu))[None, None].to(self._device)
            mean, _ = objective.autoencoder.posterior(image)
            decoded = objective.autoencoder.decode_posterior(mean).mean(dim=1, keepdim=True).clamp(-1, 1)
            ratios.append(float(psnr(decoded, image)))
            soft.append(mae_hu(self._intensity.to_hu(decoded[0, 0].cpu().numpy()), hu, SOFT_TISSUE_HU))
        return Validation({"psnr": float(np.mean(ratios)), "soft_tissue_mae_hu": float(np.mean(soft))})

    def export(self, objective: VaeObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Measure the latents' statistics on the training split and write the checkpoint."""
        autoencoder = objective.autoencoder
        mean, std = self._latent_normalisation(autoencoder)
        autoencoder.set_latent_statistics(mean, std)
        record = {
            "task": "autoencoder",
            "slices": len(self._train),
            "patient_keys": self._store.patients("train"),
            **training,
        }
        card = replace(self._card, autoencoder=autoencoder.config, training=record)
        save_checkpoint(path, card, autoencoder)

    def _latent_normalisation(self, autoencoder: KlVae) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation by which latents are normalised, as configured or as measured."""
        factor, channels = self._config.latent_scale, autoencoder.config.latent_channels
        if factor is not None:
            return torch.zeros(channels), torch.full((channels,), 1 / factor)
        return self._latent_statistics(autoencoder)

    @torch.no_grad()
    def _latent_statistics(self, autoencoder: KlVae) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel over evenly spaced training slices."""
        means = []
        for index in self._train[:: max(1, len(self._train) // 32)]:
            image = torch.from_numpy(self._intensity.to_unit(self._store.hu(index)))[None, None].to(self._device)
            means.append(autoencoder.posterior(image)[0].transpose(0, 1).flatten(1))
        latents = torch.cat(means, dim=1)
        return latents.mean(dim=1), latents.std(dim=1)
