"""Dual-stream objective of the denoiser (arXiv 2503.12015, Eq. 6 and the perceptual term of Eq. 7)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.diffusion.chain import Chain
from qdm_med.diffusion.process import diffuse, scale_input, start
from qdm_med.errors import ConfigError
from qdm_med.intensity import IntensityMap
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.conditioning import Conditioning
from qdm_med.models.network import LatentNetwork
from qdm_med.models.qdm.denoiser import Prediction, Source
from qdm_med.models.qdm.quadtree import on_finer_grid
from qdm_med.training.pairs import PairTrainingConfig
from qdm_med.training.task import Distance
from qdm_med.training.tissue_bias import TissueBias

LPIPS_FLOOR = 0.01
"""Added to bicubic's LPIPS before another is divided by it: what differs less from the truth is as good as alike."""


@dataclass(frozen=True)
class DenoiserTrainingConfig(PairTrainingConfig):
    """Training of the denoiser: its losses and its pairs.

    Attributes:
        thresholds: Quadtree thresholds; one is drawn a batch, so that the network is trained as it is run.
        adaptive_share: Share of the batches whose leaves are marked by the adaptive quadtree instead of the paper's.
        withheld_share: Share of the items in which the leaves beyond a random straight line are withheld, whatever they
            hold: outside the anatomy an adaptive run computes none, and what lies there is answered without them.
        downstream_weight: lambda_1 of Eq. 6, on the merged answer (which is the downstream's where it is used).
        upstream_weight: lambda_2 of Eq. 6.
        decoded_weight: Weight of the squared error of the decoded merged answer, in the network's range: the pixel
            counterpart of Eq. 7's perceptual term. 0: none, as in the paper's medical training.
        perceptual_weight: lambda_3 of Eq. 7: weight of the LPIPS of the decoded merged answer (0.1 in the paper); needs
            an LPIPS backbone. 0: none. Leaves without noise take no part in it: the network answers it there with a
            regular pattern (LPIPS falls, and soft tissue is hatched).
        perceptual_relative: Whether that LPIPS of each image is divided by bicubic's, so that x4, where it is a third of x8's, and
            quiet images count as much.
        source_weight: Weight of the squared error, in the network's range, of the image decoded from what the encoder of
            the source expects by itself. Where it is the only weight, that encoder alone is trained, which takes a fraction
            of the time; what it has learnt is then there for every step.
        keep_source: Whether the encoder of the source keeps what it has learnt, so that a step trains what the streams add to
            it; how its features reach them is still trained.
        perceptual_until: Part of the chain, from its clean end, in which the perceptual term counts. Where the noise is
            strong the answer hardly follows it, and LPIPS draws the same regular pattern there as where there is none.
        l1_weight: Weight of the absolute error beside the squared one, wherever the image is compared. Small errors, such as
            the noise of a quiet region on any part of the HU scale, count in it, where squares count large ones only.
        relative_floor: If above 0, the errors of each image are divided by those of bicubic interpolation and this much, in
            network units: a faint disc in noise then counts as much as an edge between lung and bone.
        cold_share: Share of the items that are shown ``z_y`` itself at the last timestep: what a chain starts from at
            temperature 0.
        last_timestep_share: Share of the items trained at the last timestep, where every chain starts and a chain of
            one step also ends; the others are drawn evenly from all timesteps.
        agreement_weight: Weight of the difference, measured as the error of the image is, between the decoded answer and that of a
            quadtree whose leaves are all active: leaving leaves out then changes little. The clinical stages take half as
            long again with it. Needs a loss against the truth beside it, and a network with noise everywhere.
        tissue_weight: Weight of the mean error in HU of every tissue of the decoded image, which errors of pixels hardly notice
            (:class:`qdm_med.training.tissue_bias.TissueBias`). Needs a loss against the truth beside it; for CT only.
        own_share: Share of the items that are mixed from the network's own answer at the last timestep instead of the truth,
            which is what a later step of a chain is shown: trained on the truth alone, it trusts the mixture too much.
    """

    thresholds: tuple[float, ...] = (0.0, 0.05, 0.1, 0.15, 0.15, 0.3)
    adaptive_share: float = 0.0
    withheld_share: float = 0.0
    downstream_weight: float = 1.0
    upstream_weight: float = 1.0
    decoded_weight: float = 0.0
    perceptual_weight: float = 0.0
    perceptual_relative: bool = False
    source_weight: float = 0.0
    keep_source: bool = False
    perceptual_until: float = 1.0
    l1_weight: float = 0.0
    relative_floor: float = 0.0
    cold_share: float = 0.0
    last_timestep_share: float = 0.0
    agreement_weight: float = 0.0
    tissue_weight: float = 0.0
    own_share: float = 0.0

    def __post_init__(self) -> None:
        """Check the shares, and that there is a loss to minimise."""
        super().__post_init__()
        if not self.trains_denoiser and not self.source_weight:
            raise ConfigError(
                "no weight of the objective compares with the truth; give at least one such weight a value"
            )
        if (self.agreement_weight or self.tissue_weight) and not self.trains_denoiser:
            raise ConfigError(
                "agreement_weight and tissue_weight judge the streams' answers; give decoded_weight a value, too"
            )

    @property
    def trains_denoiser(self) -> bool:
        """Whether a weight asks for more than the encoder of the source."""
        return any((self.downstream_weight, self.upstream_weight, self.decoded_weight, self.perceptual_weight))

    @property
    def needs_image(self) -> bool:
        """Whether a weight judges the decoded answer."""
        return any((self.decoded_weight, self.perceptual_weight, self.agreement_weight, self.tissue_weight))


class DenoiserBatch(NamedTuple):
    """One training batch, in the latent space.

    Attributes:
        high_res: ``(B, 1, H, W)`` high-resolution crops in [-1, 1].
        z_0: ``(B, C, h, w)`` their latents.
        known: Inputs of the denoiser.
        t: ``(B,)`` timesteps.
        noise: ``(B, C, h, w)`` standard normal.
        cold: ``(B,)`` bool, items that are shown ``z_y`` itself, at the last timestep; ``None``: no item is.
        own: ``(B,)`` bool, items that are mixed from the network's own answer; ``None``: no item is.
    """

    high_res: Tensor
    z_0: Tensor
    known: Conditioning
    t: Tensor
    noise: Tensor
    cold: Tensor | None = None
    own: Tensor | None = None


class DenoiserObjective(nn.Module):
    """Denoiser with its losses, so that one forward serves single and distributed training."""

    def __init__(
        self,
        denoiser: LatentNetwork,
        schedule: Chain,
        config: DenoiserTrainingConfig,
        decode: Callable[[Tensor], Tensor],
        perceptual: Distance | None = None,
        *,
        intensity: IntensityMap | None = None,
    ) -> None:
        super().__init__()
        if config.tissue_weight and intensity is None:
            raise ConfigError("tissue_weight needs images in HU; leave it out of a training on photographs")
        if config.perceptual_weight and perceptual is None:
            raise ConfigError("perceptual_weight needs an LPIPS backbone; give --lpips-backbone or set it to 0")
        if config.agreement_weight and not denoiser.config.noise_everywhere:
            raise ConfigError("agreement_weight needs noise_everywhere: else a dense run starts from other noise")
        self.denoiser = denoiser
        self.schedule, self.config = schedule, config
        self._tissue_bias = TissueBias(intensity) if config.tissue_weight and intensity is not None else None
        self._decode, self._perceptual = decode, (perceptual,)  # a tuple: its weights are not ours to train or save

    def forward(self, batch: DenoiserBatch) -> dict[str, Tensor]:
        """Compute Eq. 6, Eq. 7's term on the decoded image and the source's own answer, where they have a weight."""
        plain = self._interpolated(batch)
        losses = self._denoising(batch, plain) if self.config.trains_denoiser else {}
        if self.config.source_weight:
            image = self._decode(self.denoiser.expect(batch.known.low_res, batch.known.z_y))
            losses["source"] = self._error(image, batch.high_res, plain)
            losses["loss"] = losses.get("loss", 0.0) + self.config.source_weight * losses["source"]
        return losses

    @torch.no_grad()
    def _interpolated(self, batch: DenoiserBatch) -> Tensor | None:
        """Bicubic's image, ``(B, 1, H, W)``, where a loss is relative to its errors."""
        relative = self.config.relative_floor or (self.config.perceptual_weight and self.config.perceptual_relative)
        return self._decode(batch.known.z_y) if relative else None

    def _denoising(self, batch: DenoiserBatch, plain: Tensor | None) -> dict[str, Tensor]:
        _, z_0, known, t, noise, cold, own = batch
        if cold is not None:
            t = torch.where(cold, len(self.schedule) - 1, t)
        source = self.denoiser.read_source(known.low_res, known.z_y)
        mixed = z_0 if own is None else torch.where(own[:, None, None, None], self._first_answer(batch, source), z_0)
        z_t = diffuse(self.schedule, mixed, known.z_y, t, known.mask, noise)
        if cold is not None:
            z_t = torch.where(cold[:, None, None, None], self.schedule.start_share * known.z_y, z_t)
        said = self._answer(z_t, t, known, source)
        merged, upstream = F.mse_loss(said.merged, z_0), F.mse_loss(said.upstream, z_0)
        loss = self.config.downstream_weight * merged + self.config.upstream_weight * upstream
        losses = {"merged": merged, "upstream": upstream}
        if self.config.needs_image:
            image = self._decode(said.merged)
            losses["decoded"] = self._error(image, batch.high_res, plain)
            loss = loss + self.config.decoded_weight * losses["decoded"]
            if self.config.perceptual_weight and (distance := self._perceptual[0]) is not None:
                counted = t < self.config.perceptual_until * len(self.schedule)
                losses["perceptual"] = (counted * self._perceived(distance, image, batch, plain)).mean()
                loss = loss + self.config.perceptual_weight * losses["perceptual"]
            if self._tissue_bias is not None:
                losses["tissue"] = self._tissue_bias(image, batch.high_res).mean()
                loss = loss + self.config.tissue_weight * losses["tissue"]
            if self.config.agreement_weight:
                losses["agreement"] = self._error(
                    image, self._dense(image, z_t, t, known, source), plain, batch.high_res
                )
                loss = loss + self.config.agreement_weight * losses["agreement"]
        return {"loss": loss, **losses}

    def _dense(self, image: Tensor, z_t: Tensor, t: Tensor, known: Conditioning, source: Source | None) -> Tensor:
        """The decoded answer of a quadtree whose leaves are all active; ``image``, where they are."""
        if sum(known.plan.leaves_in) == known.leaves.numel():
            return image
        everywhere = replace(known, plan=self.denoiser.plan(torch.ones_like(known.leaves)))
        return self._decode(self._answer(z_t, t, everywhere, source).merged)

    def _answer(self, z_t: Tensor, t: Tensor, known: Conditioning, source: Source | None) -> Prediction:
        shown = scale_input(self.schedule, z_t - known.z_y if self.denoiser.config.see_shift else z_t, t)
        said: Prediction = self.denoiser(shown, t, known.low_res, known.z_y, known.plan, source)
        return said

    @torch.no_grad()
    def _first_answer(self, batch: DenoiserBatch, source: Source | None) -> Tensor:
        """The network's answer at the last timestep, ``(B, C, h, w)``, to noise that is not the batch's own at any place."""
        known = batch.known
        last = torch.full_like(batch.t, len(self.schedule) - 1)
        prior = start(self.schedule, known.z_y, known.mask, batch.noise.flip(-1))
        return self._answer(prior, last, known, source).merged

    def _perceived(self, distance: Distance, image: Tensor, batch: DenoiserBatch, plain: Tensor | None) -> Tensor:
        """LPIPS of each image, ``(B,)``, what lies in leaves without noise left out."""
        pixels = on_finer_grid(batch.known.mask, DOWNSAMPLING)
        found = distance(torch.where(pixels, image, batch.high_res), batch.high_res)
        if not self.config.perceptual_relative or plain is None:
            return found
        with torch.no_grad():
            bicubic = distance(torch.where(pixels, plain, batch.high_res), batch.high_res)
        return found / (bicubic + LPIPS_FLOOR)

    def _error(self, image: Tensor, reference: Tensor, plain: Tensor | None, truth: Tensor | None = None) -> Tensor:
        """Squared and absolute error of an answer, in the network's range or against bicubic's.

        Args:
            image: ``(B, 1, H, W)``.
            reference: What it should be.
            plain: Bicubic's image, where errors are relative to its own.
            truth: What bicubic's image should be; ``None``: the reference.
        """
        squared, absolute = _errors(image, reference)
        if self.config.relative_floor and plain is not None:
            known = _errors(plain, reference if truth is None else truth)
            squared = squared / (known[0] + self.config.relative_floor**2)
            absolute = absolute / (known[1] + self.config.relative_floor)
        return (squared + self.config.l1_weight * absolute).mean() if self.config.l1_weight else squared.mean()


def _errors(image: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared and mean absolute error of each image, ``(B,)``."""
    difference = (image - reference).flatten(1)
    return difference.square().mean(dim=1), difference.abs().mean(dim=1)
