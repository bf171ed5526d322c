"""Training of an image network, a method to compare with, on the pairs that the denoiser is trained on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.checkpoints.image_model import ImageModelCard, save_image_network
from qdm_med.data.degradation.degrade import BENCHMARK
from qdm_med.data.pairs import PairBatch, full_pairs
from qdm_med.data.store.slices import SliceStore
from qdm_med.errors import ConfigError
from qdm_med.keys import seed_initial_weights
from qdm_med.models.compared.image_network import ImageNetwork
from qdm_med.training.pairs import (
    PairBatches,
    PairTrainingConfig,
    compare_with_bicubic,
    data_record,
    evenly_spaced,
)
from qdm_med.training.task import Distance, Run, Share, Validation


@dataclass(frozen=True)
class ImageTrainingConfig(PairTrainingConfig):
    """Training of an image network: its losses and its pairs.

    Attributes:
        mse_weight: Weight of the squared error, which is what PSNR measures.
        l1_weight: Weight of the absolute error, which published networks are trained with first.
        perceptual_weight: Weight of the LPIPS of the answer; needs an LPIPS backbone. 0: none.
    """

    mse_weight: float = 1.0
    l1_weight: float = 0.0
    perceptual_weight: float = 0.0

    def __post_init__(self) -> None:
        """Check the pairs, and that there is a loss to minimise."""
        super().__post_init__()
        weights = (self.mse_weight, self.l1_weight, self.perceptual_weight)
        if min(weights) < 0 or not any(weights):
            raise ConfigError(
                f"mse_weight, l1_weight, perceptual_weight must not be negative nor all zero, got {weights}"
            )


class ImageObjective(nn.Module):
    """Network with its loss, so that one forward serves single and distributed training."""

    def __init__(self, network: ImageNetwork, config: ImageTrainingConfig, perceptual: Distance | None = None) -> None:
        super().__init__()
        if config.perceptual_weight and perceptual is None:
            raise ConfigError(
                "image_training.perceptual_weight needs an LPIPS backbone; give --lpips-backbone or set it to 0"
            )
        self.network, self.config = network, config
        self._perceptual = (perceptual,)  # a tuple: its weights are not ours to train or save

    def forward(self, batch: PairBatch) -> dict[str, Tensor]:
        """Compute the weighted ``"loss"`` with its terms."""
        made = self.network(batch.low_res)
        losses = {"mse": F.mse_loss(made, batch.high_res), "l1": F.l1_loss(made, batch.high_res)}
        loss = self.config.mse_weight * losses["mse"] + self.config.l1_weight * losses["l1"]
        if self.config.perceptual_weight and (distance := self._perceptual[0]) is not None:
            losses["perceptual"] = distance(made, batch.high_res).mean()
            loss = loss + self.config.perceptual_weight * losses["perceptual"]
        return {"loss": loss, **losses}


class ImageTask:
    """Training task of an image network: batches, validation and file.

    Args:
        card: Description of the network in training.
        config: Losses and pairs of the training.
        run: Data, batch, seed and device.

    Raises:
        ConfigError: If a crop does not fit, or a perceptual term has no distance.
    """

    may_skip_parameters = False

    def __init__(self, card: ImageModelCard, config: ImageTrainingConfig, run: Run[SliceStore]) -> None:
        self._pairs = PairBatches(run, config, scales=(card.scale,), intensity=card.intensity)
        seed_initial_weights(run.seed)
        objective = ImageObjective(ImageNetwork(card.network, card.scale), config, run.perceptual)
        self.objective = objective.to(run.device).to(memory_format=torch.channels_last)
        self.players: Mapping[str, nn.Module] = {"loss": self.objective.network}
        self._store, self._device, self._validated = run.store, run.device, config.validation_slices
        self._card = card

    def size(self, step: int) -> int:
        """Number of items in the batch of ``step``."""
        return self._pairs.size(step)

    def draw(self, step: int, share: Share) -> PairBatch:
        """Make a share of the pairs of ``step``."""
        return self._pairs.batch(step, share)

    def batch(self, drawn: PairBatch) -> PairBatch:
        """Bring pairs to the device."""
        return replace(drawn, high_res=drawn.high_res.to(self._device), low_res=drawn.low_res.to(self._device))

    @torch.no_grad()
    def validate(self, objective: ImageObjective) -> Validation:
        """Measure PSNR (data range 2) of the answers, and of bicubic, on whole validation slices."""
        every = evenly_spaced(self._store, self._validated)
        intensity, scale = self._card.intensity, self._card.scale
        pairs = full_pairs(self._store, "val", scale, BENCHMARK, intensity=intensity, every=every)
        return compare_with_bicubic(
            pairs, lambda pair: objective.network(pair.low_res.to(self._device)).clamp(-1.0, 1.0).cpu()
        )

    def export(self, objective: ImageObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Write the averaged network with its card."""
        card = replace(self._card, training={"task": "image", **data_record(self._store), **training})
        save_image_network(path, card, objective.network)
