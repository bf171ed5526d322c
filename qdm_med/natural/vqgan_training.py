"""Training of the VQGAN on crops of photographs (VQGAN, arXiv 2012.09841, with the losses of arXiv 2112.10752)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med import distributed, keys
from qdm_med.errors import ConfigError
from qdm_med.evaluation.measures.metrics import psnr
from qdm_med.models.autoencoder.vq import VqAutoencoder
from qdm_med.natural.checkpoint import NaturalCard, save_natural
from qdm_med.natural.photos import PhotoStore, centre_crop
from qdm_med.training.adversary import PatchAdversary, adaptive_weight
from qdm_med.training.task import Distance, Run, Share, Validation, require_item_for_every_process

STATISTICS_CROPS = 32
"""Training crops on which the latents' mean and deviation are measured."""


@dataclass(frozen=True)
class VqganTrainingConfig:
    """Training of the VQGAN: its losses and its crops.

    Attributes:
        crop: Side of the training crops in pixels, a multiple of 4.
        resized_share: Share of the photographs whose shorter side is first resized to the crop's.
        l1_weight: Weight of the absolute error.
        codebook_weight: Weight of the distance that moves the codes to the encoder's answers.
        commitment_weight: Weight of the same distance, moving the encoder's answers to the codes.
        perceptual_weight: Weight of LPIPS, which needs a backbone. 0: none.
        adversarial_weight: Weight of the loss of not deceiving a PatchGAN discriminator. 0: there is no discriminator.
        adversarial_adaptive: Whether that weight is multiplied by VQGAN's adaptive weight (Eq. 7), in every step anew: at the
            decoder's last layer the adversarial loss then pulls ``adversarial_weight`` times as hard as the absolute error
            and LPIPS together. It is a weight of the whole batch, so that ``loop.accumulate`` must be 1.
        adversarial_start: Step, counted from 0, from which both play against each other.
        discriminator_channels: Width of the discriminator's first layer; each further one doubles it.
        discriminator_layers: Its layers behind the first; three see patches of 70 pixels.
        quantised_from: Step from which latents are put on codes. At that step the codes are placed on what the encoder
            then says: a short run never moves codes that start elsewhere. 0: from the start, codes where they are.
        validation_photos: Photographs of the validation folder that are measured, their middles.
    """

    crop: int = 256
    resized_share: float = 0.5
    l1_weight: float = 1.0
    codebook_weight: float = 1.0
    commitment_weight: float = 0.25
    perceptual_weight: float = 1.0
    adversarial_weight: float = 0.1
    adversarial_adaptive: bool = False
    adversarial_start: int = 0
    discriminator_channels: int = 64
    discriminator_layers: int = 3
    quantised_from: int = 0
    validation_photos: int = 16

    def __post_init__(self) -> None:
        """Reject negative weights and crops that fit neither latent nor discriminator."""
        for name in ("perceptual_weight", "adversarial_weight", "adversarial_start", "quantised_from"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.crop % 4:
            raise ConfigError(f"crop must be a multiple of 4, got {self.crop}")
        smallest = PatchAdversary.smallest_side(self.discriminator_layers)
        if self.adversarial_weight and self.crop < smallest:
            raise ConfigError(f"crop {self.crop} is too small for the discriminator; take at least {smallest}")


class VqganBatch(NamedTuple):
    """One training batch.

    Attributes:
        image: ``(B, 3, H, W)`` crops in [-1, 1].
        quantised: Whether latents are put on codes in this step.
        place_codes: Whether the codes are first placed on this batch's latents.
        adversarial: Whether VQGAN and discriminator play against each other in this step.
    """

    image: Tensor
    quantised: bool = True
    place_codes: bool = False
    adversarial: bool = False


class VqganObjective(nn.Module):
    """VQGAN and, if it has one, its adversary, with the losses of both."""

    def __init__(
        self,
        autoencoder: VqAutoencoder,
        config: VqganTrainingConfig,
        adversary: PatchAdversary | None = None,
        perceptual: Distance | None = None,
    ) -> None:
        super().__init__()
        if config.perceptual_weight and perceptual is None:
            raise ConfigError("vqgan.perceptual_weight needs an LPIPS backbone; give --lpips-backbone or set it to 0")
        self.autoencoder, self.adversary, self.config = autoencoder, adversary, config
        self._perceptual = (perceptual,)  # a tuple: its weights are not ours to train or save

    def forward(self, batch: VqganBatch) -> dict[str, Tensor]:
        """Compute the VQGAN's ``"loss"`` with its terms, and the ``"discriminator"``'s where both play."""
        if batch.place_codes:
            place_codes(self.autoencoder, batch.image)
        losses: dict[str, Tensor] = {}
        if batch.quantised:
            decoded, _, quantised = self.autoencoder.reconstruct(batch.image)
            losses |= {"codebook": quantised.codebook, "commitment": quantised.commitment}
        else:
            decoded = self.autoencoder.without_codes(batch.image)
        reconstruction = self._reconstruction(decoded, batch.image, losses)
        loss = reconstruction
        if batch.quantised:
            codebook = self.config.codebook_weight * losses["codebook"]
            loss = loss + codebook + self.config.commitment_weight * losses["commitment"]
        if batch.adversarial and self.adversary is not None:
            losses["adversarial"] = self.adversary.deceived(decoded)
            weight = torch.tensor(self.config.adversarial_weight, device=loss.device)
            if self.config.adversarial_adaptive:
                weight = weight * adaptive_weight(reconstruction, losses["adversarial"], self.autoencoder.last_layer)
                losses["adversarial_weight"] = weight
            loss = loss + weight * losses["adversarial"]
            losses["discriminator"] = self.adversary.told_apart(batch.image, decoded)
        return {"loss": loss, **losses}

    def _reconstruction(self, decoded: Tensor, image: Tensor, losses: dict[str, Tensor]) -> Tensor:
        """L_rec of VQGAN's Eq. 7: absolute error and LPIPS, weighted; each is added to ``losses``."""
        losses["l1"] = F.l1_loss(decoded, image)
        loss = self.config.l1_weight * losses["l1"]
        if self.config.perceptual_weight and (distance := self._perceptual[0]) is not None:
            losses["perceptual"] = distance(decoded, image).mean()
            loss = loss + self.config.perceptual_weight * losses["perceptual"]
        return loss


@torch.no_grad()
def place_codes(autoencoder: VqAutoencoder, image: Tensor) -> None:
    """Put every code on a latent pixel of ``image``, evenly spaced, the same in every process."""
    latents = autoencoder.latents(image).movedim(1, -1).flatten(0, -2)
    weight = autoencoder.quantiser.embedding.weight
    spaced = torch.linspace(0, len(latents) - 1, len(weight), device=latents.device).round().long()
    # A code that stands for no pixel of its own is moved aside a little: equal codes would never part again.
    aside = torch.linspace(-1e-3, 1e-3, len(weight), device=latents.device)[:, None] * latents.std(dim=0)
    placed = distributed.on_main(lambda: (latents[spaced] + aside).cpu())
    weight.copy_(placed)


class VqganTask:
    """Training task of the VQGAN: batches, validation and checkpoint."""

    def __init__(self, card: NaturalCard, config: VqganTrainingConfig, run: Run[PhotoStore]) -> None:
        require_item_for_every_process(run.batch)
        run.store.require(config.validation_photos, config.crop)
        keys.seed_initial_weights(run.seed)
        autoencoder, adversary = VqAutoencoder(card.autoencoder), None
        if config.adversarial_weight:
            adversary = PatchAdversary(3, config.discriminator_channels, config.discriminator_layers)
        objective = VqganObjective(autoencoder, config, adversary, run.perceptual)
        self.objective = objective.to(run.device).to(memory_format=torch.channels_last)
        self.players: Mapping[str, nn.Module] = {"loss": autoencoder}
        if adversary is not None:
            self.players = {"loss": autoencoder, "discriminator": adversary}
        self.may_skip_parameters = adversary is not None or config.quantised_from > 0
        self._card, self._store, self._config, self._perceptual = card, run.store, config, run.perceptual
        self._batch, self._seed, self._device = run.batch, run.seed, run.device

    def size(self, step: int) -> int:
        """Number of crops in every batch."""
        return self._batch

    def draw(self, step: int, share: Share) -> VqganBatch:
        """Cut a share of the crops of ``step``."""
        crops = torch.stack([self._crop(step, item) for item in share.items(self._batch)])
        return VqganBatch(
            crops,
            quantised=step >= self._config.quantised_from,
            place_codes=step == self._config.quantised_from > 0 and share.index == distributed.rank(),
            adversarial=self._config.adversarial_weight > 0 and step >= self._config.adversarial_start,
        )

    def batch(self, drawn: VqganBatch) -> VqganBatch:
        """Bring crops to the device."""
        return drawn._replace(image=drawn.image.to(self._device).contiguous(memory_format=torch.channels_last))

    def _crop(self, step: int, item: int) -> Tensor:
        rng = keys.rng(self._seed, "autoencoder crop", step, item)
        return self._store.crop(rng, self._config.crop, self._config.resized_share)

    @torch.no_grad()
    def validate(self, objective: VqganObjective) -> Validation:
        """Measure PSNR (data range 2), LPIPS if there is one, and the codes in use, on middles of photographs."""
        ratios, distances, used = [], [], set()
        for path in self._store.val[: self._config.validation_photos]:
            image = centre_crop(self._store.photo(path), self._config.crop)[None].to(self._device)
            found = objective.autoencoder.reconstruct(image)
            decoded = found.image.clamp(-1, 1)
            ratios.append(float(psnr(decoded, image)))
            used.update(torch.unique(found.quantised.codes).tolist())
            if self._perceptual is not None:
                distances.append(float(self._perceptual(decoded, image)))
        figures = {"psnr": float(np.mean(ratios)), "codes_used": float(len(used))}
        return Validation(figures | ({"lpips": float(np.mean(distances))} if distances else {}))

    def export(self, objective: VqganObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Measure the latents' statistics on training crops and write the checkpoint."""
        autoencoder = objective.autoencoder
        autoencoder.set_latent_statistics(*self._latent_statistics(autoencoder))
        data = {"task": "vqgan", "photographs": len(self._store.train)}
        save_natural(path, replace(self._card, training={**data, **training}), autoencoder)

    @torch.no_grad()
    def _latent_statistics(self, autoencoder: VqAutoencoder) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each latent channel."""
        crops = (self._crop(0, item)[None].to(self._device) for item in range(STATISTICS_CROPS))
        latents = torch.cat([autoencoder.latents(crop).transpose(0, 1).flatten(1) for crop in crops], dim=1)
        return latents.mean(dim=1), latents.std(dim=1)
