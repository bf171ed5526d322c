"""Training of a denoiser with the dual-stream objective (arXiv 2503.12015, Eq. 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from qdm_med.checkpoints.model import Checkpoint, ModelCard, save_checkpoint
from qdm_med.data.pairs import PairBatch, SlicePair, full_pairs
from qdm_med.data.store.slices import SliceStore
from qdm_med.diffusion.chain import Chain, chain_of
from qdm_med.diffusion.noise import SliceNoise
from qdm_med.diffusion.schedule import trailing_timesteps
from qdm_med.errors import ConfigError
from qdm_med.inference.options import UpscaleOptions
from qdm_med.inference.plan import where_to_look
from qdm_med.inference.super_resolution import read_steps, slice_draws, super_resolve
from qdm_med.keys import rng, seed_initial_weights
from qdm_med.models.autoencoder.kl_vae import DOWNSAMPLING
from qdm_med.models.conditioning import active_leaves, condition, leaf_grid
from qdm_med.models.network import LatentNetwork, LatentNetworkConfig, build_network
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser, grow_source
from qdm_med.models.qdm.quadtree import AdaptiveQuadtree, PaperQuadtree, Quadtree
from qdm_med.resample import upsample
from qdm_med.training.objective import DenoiserBatch, DenoiserObjective, DenoiserTrainingConfig
from qdm_med.training.pairs import PairBatches, compare_with_bicubic, data_record, evenly_spaced
from qdm_med.training.task import Run, Sample, Share, Validation


class DrawnPairs(NamedTuple):
    """Everything random of a share of a batch, on the CPU.

    Attributes:
        pairs: The pairs.
        t: ``(B,)`` timesteps.
        cold: ``(B,)`` bool as in :class:`DenoiserBatch`, or ``None``.
        own: Likewise.
        noise: ``(B, C, h, w)`` standard normal, of the latents' shape.
        within: ``(B, 1, rows, columns)`` bool source pixels whose leaves may be active.
        quadtree: Quadtree of the step.
    """

    pairs: PairBatch
    t: Tensor
    cold: Tensor | None
    own: Tensor | None
    noise: Tensor
    within: Tensor
    quadtree: Quadtree


class DenoiserTask:
    """Training task of a denoiser: batches, validation and checkpoint.

    Args:
        card: Description of the network in training: its network, its schedule, the autoencoder and the HU mapping of ``base``.
        config: Losses and pairs of the training.
        run: Data, batch, seed and device.
        base: Checkpoint of the autoencoder.
        initial: Checkpoint whose denoiser the run starts from; ``None``: random weights.

    Raises:
        ConfigError: If network, autoencoder, start and objective do not fit each other.
    """

    may_skip_parameters = True  # the downstream's, where no leaf is active

    def __init__(
        self,
        card: ModelCard,
        config: DenoiserTrainingConfig,
        run: Run[SliceStore],
        base: Checkpoint,
        initial: Checkpoint | None = None,
    ) -> None:
        shape = _serving(card, config, base)
        self._card, self._config = card, config
        self._pairs = PairBatches(run, config, scales=card.scales, intensity=card.intensity)
        seed_initial_weights(run.seed)
        self._schedule = chain_of(card.schedule)
        self._autoencoder = base.autoencoder.to(run.device).requires_grad_(False)
        denoiser = build_network(shape).to(run.device)
        if initial is not None:
            _start_from(denoiser, initial, base)
        if config.keep_source:
            _keep_source(denoiser)
        self.objective = DenoiserObjective(
            denoiser, self._schedule, config, self._autoencoder.decode, run.perceptual, intensity=card.intensity
        )
        self.players: Mapping[str, nn.Module] = {"loss": denoiser}
        self._store, self._device, self._seed = run.store, run.device, run.seed
        self._vae_hash, self._initial_hash = base.sha256, initial.sha256 if initial is not None else None
        cards = [base.card] if initial is None else [base.card, initial.card]
        self._seen_before = {str(key) for one in cards for key in one.training.get("patient_keys", ())}

    def size(self, step: int) -> int:
        """Number of items in the batch of ``step``."""
        return self._pairs.size(step)

    def draw(self, step: int, share: Share) -> DrawnPairs:
        """Make a share of the pairs of ``step``, with their timesteps, noise and what may be refined."""
        pairs = self._pairs.batch(step, share)
        items = [rng(self._seed, "diffusion", step, item) for item in share.items(self.size(step))]
        t = torch.tensor([self._draw_timestep(item) for item in items])
        cold = _draw_items(items, self._config.cold_share)
        height, width = pairs.high_res.shape[-2:]
        shape = (self._card.autoencoder.latent_channels, height // DOWNSAMPLING, width // DOWNSAMPLING)
        noise = torch.from_numpy(np.stack([item.standard_normal(shape, dtype=np.float32) for item in items]))
        within = np.stack([self._draw_within(item, pairs.low_res.shape[-1]) for item in items])
        own = _draw_items(items, self._config.own_share)
        return DrawnPairs(pairs, t, cold, own, noise, torch.from_numpy(within)[:, None], self._draw_quadtree(step))

    def batch(self, drawn: DrawnPairs) -> DenoiserBatch:
        """Bring a share to the device, its slices encoded."""
        scale = drawn.pairs.scale
        low_res, high_res = drawn.pairs.low_res.to(self._device), drawn.pairs.high_res.to(self._device)
        with torch.no_grad():
            z_0 = self._autoencoder.encode(high_res)
        patch = self.objective.denoiser.config.downstream_patch
        grid = leaf_grid((low_res.shape[-2], low_res.shape[-1]), scale, patch)
        leaves = active_leaves(low_res, drawn.quadtree, grid, drawn.within.to(self._device))
        known = condition(self._autoencoder, self.objective.denoiser, low_res, leaves, scale=scale)
        cold, own = (None if chosen is None else chosen.to(self._device) for chosen in (drawn.cold, drawn.own))
        return DenoiserBatch(high_res, z_0, known, drawn.t.to(self._device), drawn.noise.to(self._device), cold, own)

    def _draw_quadtree(self, step: int) -> Quadtree:
        shared = self._pairs.draw(step).rng
        threshold = float(shared.choice(self._config.thresholds))
        return (
            AdaptiveQuadtree(threshold) if shared.random() < self._config.adaptive_share else PaperQuadtree(threshold)
        )

    def _draw_timestep(self, rng: np.random.Generator) -> int:
        timestep = int(rng.integers(len(self._schedule)))
        return len(self._schedule) - 1 if rng.random() < self._config.last_timestep_share else timestep

    def _draw_within(self, rng: np.random.Generator, side: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Draw where leaves may be active, ``(side, side)`` bool: one side of a random line, or everywhere."""
        if rng.random() >= self._config.withheld_share:
            return np.ones((side, side), dtype=bool)
        angle, offset = rng.uniform(0, 2 * np.pi), rng.uniform(-0.5, 0.5) * side
        row, column = np.mgrid[:side, :side] - (side - 1) / 2
        return row * np.sin(angle) + column * np.cos(angle) >= offset

    @torch.no_grad()
    def validate(self, objective: DenoiserObjective) -> Validation:
        """Measure PSNR (data range 2) of samples at the card's steps, and of bicubic, on whole validation slices.

        Where the encoder of the source alone is trained, its answers stand for the samples.
        """
        figures: dict[str, float] = {}
        samples: list[Sample] = []
        every = evenly_spaced(self._store, self._config.validation_slices)
        for scale, steps in zip(self._card.scales, self._card.steps, strict=True):
            schedule = self._schedule.respaced(trailing_timesteps(len(self._schedule), steps))
            pairs = full_pairs(
                self._store,
                "val",
                scale,
                self._config.validation_degradation,
                intensity=self._card.intensity,
                every=every,
            )
            resolve = partial(self._super_resolve, objective.denoiser, schedule)
            if not self._config.trains_denoiser:
                resolve = partial(self._expect, objective.denoiser)
            found = compare_with_bicubic(pairs, resolve)
            figures |= found.figures
            samples += found.samples
        return Validation(figures, tuple(samples))

    def _super_resolve(self, denoiser: LatentNetwork, schedule: Chain, pair: SlicePair) -> Tensor:
        low_res, scale = pair.low_res, pair.scale
        rows, columns = low_res.shape[-2:]
        draws = slice_draws(
            SliceNoise(self._seed, pair.record.sha256, 0.0),
            (slice(0, rows), slice(0, columns)),
            channels=self._card.autoencoder.latent_channels,
            scale=scale,
            device=self._device,
        )
        return super_resolve(
            self._autoencoder,
            denoiser,
            low_res.to(self._device),
            self._leaves(low_res, scale).to(self._device),
            scale=scale,
            schedule=schedule,
            steps=read_steps(denoiser, schedule, self._device),
            noises=(draws,),
        ).cpu()

    def _leaves(self, low_res: Tensor, scale: int) -> Tensor:
        """Active leaves of ``(1, 1, H, W)`` in [-1, 1], ``(1, rows, columns)`` bool: those that ``upscale`` would refine."""
        quadtree = UpscaleOptions(scale=scale).quadtree_for(self._card)
        hu = self._card.intensity.to_hu(low_res[0, 0].numpy())
        within = torch.from_numpy(where_to_look(hu, np.zeros(hu.shape, dtype=bool), quadtree))
        patch = self.objective.denoiser.config.downstream_patch
        grid = leaf_grid((low_res.shape[-2], low_res.shape[-1]), scale, patch)
        return active_leaves(low_res, quadtree, grid, within[None, None])

    def _expect(self, denoiser: LatentNetwork, pair: SlicePair) -> Tensor:
        """Answer of the encoder of the source alone to a slice."""
        low_res = pair.low_res.to(self._device)
        z_y = self._autoencoder.encode(upsample(low_res, pair.scale))
        return self._autoencoder.decode(denoiser.expect(low_res, z_y)).clamp(-1.0, 1.0).cpu()

    def export(self, objective: DenoiserObjective, path: Path, training: Mapping[str, Any]) -> None:
        """Write autoencoder and averaged denoiser as one checkpoint."""
        data = data_record(self._store)
        data |= {
            "task": "denoiser",
            # Who was seen by the autoencoder or by the weights that training started from was seen by this model.
            "patient_keys": sorted(self._seen_before.union(data["patient_keys"])),
            "autoencoder_sha256": self._vae_hash,
            "initial_sha256": self._initial_hash,
        }
        data |= self._config.domain
        card = replace(self._card, purpose=self._config.purpose, training={**data, **training})
        save_checkpoint(path, card, self._autoencoder, objective.denoiser)


def _draw_items(items: Sequence[np.random.Generator], share: float) -> Tensor | None:
    """Choose items by their generators, ``(B,)`` bool; where none can be, nothing is drawn."""
    return torch.tensor([rng.random() < share for rng in items]) if share else None


def _serving(card: ModelCard, config: DenoiserTrainingConfig, base: Checkpoint) -> LatentNetworkConfig:
    """Shape of the network, after checking that it fits the autoencoder and the objective."""
    shape = card.require_denoiser()
    if shape.latent_channels != base.card.autoencoder.latent_channels:
        raise ConfigError(
            f"latent_channels is {shape.latent_channels}, but the autoencoder {base.card.name} has "
            f"{base.card.autoencoder.latent_channels}; set latent_channels to that"
        )
    if not shape.has_mask and (any(config.thresholds) or config.withheld_share):
        raise ConfigError(f"{card.name} has no mask; set training.thresholds to [0.0] and training.withheld_share to 0")
    return shape


def _keep_source(denoiser: LatentNetwork) -> None:
    """Freeze the encoder of the source and its answer.

    Raises:
        ConfigError: If there is no such encoder.
    """
    if not isinstance(denoiser.config, DenoiserConfig) or not denoiser.config.source_channels:
        raise ConfigError("keep_source needs an encoder of the source; set source_channels or leave keep_source out")
    for part in (denoiser.source.stem, denoiser.source.blocks, denoiser.source.shift):
        part.requires_grad_(False)


def _start_from(denoiser: LatentNetwork, initial: Checkpoint, base: Checkpoint) -> None:
    """Give a denoiser the weights of a trained one.

    Raises:
        ConfigError: If the trained one has another shape or speaks of another autoencoder's latents.
    """
    if initial.denoiser is None or not _serves(initial.denoiser.config, denoiser.config):
        raise ConfigError(f"model {initial.card.name} has no denoiser of the configured shape; start without --init")
    if not initial.shares_autoencoder(base):
        raise ConfigError(
            f"model {initial.card.name} was trained with another autoencoder than {base.card.name}; give it as --vae too"
        )
    # What the trained one lacks keeps its own beginning, an encoder of the source that adds nothing.
    denoiser.load_state_dict({**denoiser.state_dict(), **initial.denoiser.state_dict()})
    if isinstance(denoiser, TwoStreamDenoiser) and isinstance(initial.denoiser, TwoStreamDenoiser):
        grow_source(denoiser, initial.denoiser.config.source_blocks)


def _serves(initial: LatentNetworkConfig, wanted: LatentNetworkConfig) -> bool:
    """Whether weights of one shape can start another.

    Where there is noise can be learnt anew, and an encoder of the source can be added or made deeper: the wanted network
    then starts with the answers of the initial one. With another ``streams_alone``, ``upstream_outside`` or ``reach`` it
    starts with its weights, but other answers.
    """
    if isinstance(initial, DenoiserConfig) and isinstance(wanted, DenoiserConfig):
        free = ["noise_everywhere", "streams_alone", "upstream_outside"]
        if not initial.reach:  # what places mean is then learnt from nothing; of another reach it would not fit
            free.append("reach")
        wanted = replace(wanted, **{name: getattr(initial, name) for name in free})
        if not initial.source_channels:
            wanted = replace(wanted, source_channels=0, source_blocks=0)
        wanted = replace(wanted, source_blocks=min(wanted.source_blocks, initial.source_blocks))
    return initial == wanted
