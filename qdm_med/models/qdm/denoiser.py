"""The two-stream denoiser of QDM: upstream, downstream, and the encoder of the source.

One design with three options: the paper predicts ``z_0`` and merges the two streams' answers; the tiny preset
predicts the shift ``z_0 - z_y`` from a convolutional trunk, adds both streams' answers to the trunk's features and reads
them out with one convolutional head.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.models.latent_grid import local_contrast, on_latent_grid, padded_to
from qdm_med.models.qdm.blocks import modulations
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.conv_blocks import ConditionedConvBlock, ConvBlock, SourceEncoder, zero_conv
from qdm_med.models.qdm.embeddings import TimestepEmbedder
from qdm_med.models.qdm.quadtree import on_finer_grid
from qdm_med.models.qdm.streams import Downstream, NoUpstream, StreamModulation, StreamShape, Upstream
from qdm_med.models.qdm.windows import WindowPlan


class Prediction(NamedTuple):
    """Predictions of ``z_0``, each ``(B, C, h, w)``.

    Attributes:
        merged: Downstream in active leaves, upstream elsewhere: what the sampler uses.
        upstream: The upstream's answer everywhere.
        downstream: The downstream's answer; meaningful in active leaves.
    """

    merged: Tensor
    upstream: Tensor
    downstream: Tensor


class Source(NamedTuple):
    """Features of the source, computed once for all steps.

    Attributes:
        features: ``(B, trunk_channels, h, w)``, padded to whole windows.
        shift: ``(B, C, h, w)`` its guess of ``z_0 - z_y``, padded likewise; ``None`` where it is not the base.
    """

    features: Tensor
    shift: Tensor | None = None


class Step(NamedTuple):
    """Modulation of all layers at a timestep, computed once for every slice and sample.

    Attributes:
        upstream: Of the upstream.
        downstream: Of the downstream.
        trunk: ``(B, 2 trunk_channels)`` of each block of the trunk.
        head: ``(B, 2 trunk_channels)`` of each block of the head.
    """

    upstream: StreamModulation
    downstream: StreamModulation
    trunk: tuple[Tensor, ...] = ()
    head: tuple[Tensor, ...] = ()


class TwoStreamDenoiser(nn.Module):
    """Predict the high-resolution latent from a noisy one and the low-resolution image."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        latent, condition = config.latent_channels, config.condition_channels
        seen = latent + condition + (config.predict_shift and (1 if config.see_shift else latent + 1))
        coarse = StreamShape(
            patch=config.upstream_patch,
            trained_size=config.trained_size,
            rescale=config.rescale_positions,
            hidden=config.hidden,
            depth=config.depth,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
            window=config.window_size // config.upstream_patch,
            reach=config.reach,
        )
        fine = replace(coarse, patch=config.downstream_patch, window=config.window)
        width = config.trunk_channels
        self.upstream: Upstream | NoUpstream = NoUpstream(width or latent, config.hidden)
        if config.upstream:
            self.upstream = Upstream(width or seen, width or latent, coarse)
        self.downstream = Downstream(width or seen, width or latent, fine, coarse.window)
        if width:
            self.time = TimestepEmbedder(config.hidden)
            self.stem = nn.Conv2d(seen, width, 3, padding=1)
            self.trunk = nn.ModuleList(ConditionedConvBlock(width, config.hidden) for _ in range(config.trunk_blocks))
            self.head = nn.ModuleList(ConditionedConvBlock(width, config.hidden) for _ in range(config.head_blocks))
            self.read_out = zero_conv(width, latent)
        if config.source_channels:
            known = condition + (latent if config.source_sees == "latent" else condition)
            self.source = SourceEncoder(known, config.source_channels, config.source_blocks, width, latent)
            if (
                config.streams_alone
            ):  # else the head would see nothing but zeros, its last layer is zero, and neither ever moves
                self.source.out.reset_parameters()

    def plan(self, mask: Tensor) -> WindowPlan:
        """Choose the windows to compute, once for a slice.

        Args:
            mask: ``(B, h / 2, w / 2)`` bool leaves on the downstream token grid of a ``(h, w)`` latent (rounded up).
        """
        return WindowPlan.from_leaves(mask, window=self.config.window, leaf_mode=self.config.attend_to_active_only)

    def read_step(self, t: Tensor) -> Step:
        """Compute the modulation of all layers at timesteps, for :meth:`forward`.

        Args:
            t: ``(B,)`` timesteps counted from 0; one, ``(1,)``, serves any number of images.
        """
        step = Step(self.upstream.read_step(t), self.downstream.read_step(t))
        if not self.config.trunk_channels:
            return step
        condition = self.time(t)
        return step._replace(trunk=modulations(self.trunk, condition), head=modulations(self.head, condition))

    def read_source(self, low_res: Tensor, z_y: Tensor) -> Source | None:
        """Encode the source once for all steps, for :meth:`forward`; ``None`` without an encoder of the source.

        Args:
            low_res: As for :meth:`forward`.
            z_y: As for :meth:`forward`.
        """
        if not self.config.source_channels:
            return None
        deep = self.source.deep(self._without_noise(low_res, z_y))
        return Source(self.source.out(deep), self.source.shift(deep) if self.config.source_is_base else None)

    def expect(self, low_res: Tensor, z_y: Tensor) -> Tensor:
        """Predict ``z_0`` from the source alone, ``(B, C, h, w)``; no step uses it, training may.

        Args:
            low_res: As for :meth:`forward`.
            z_y: As for :meth:`forward`.

        Raises:
            ConfigError: If there is no encoder of the source.
        """
        if not self.config.source_channels:
            raise ConfigError("the network has no encoder of the source; set source_channels and source_blocks")
        height, width = z_y.shape[-2:]
        shift: Tensor = self.source.shift(self.source.deep(self._without_noise(low_res, z_y)))
        return z_y + shift[..., :height, :width]

    def _without_noise(self, low_res: Tensor, z_y: Tensor) -> Tensor:
        """Inputs that all steps share, padded to whole windows."""
        image = on_latent_grid(low_res, self.config.condition_channels, (z_y.shape[-2], z_y.shape[-1]))
        beside = z_y if self.config.source_sees == "latent" else local_contrast(image)
        return padded_to(torch.cat([image, beside], dim=1), self.config.window_size)

    def forward(
        self,
        x_t: Tensor,
        t: Tensor | Step,
        low_res: Tensor,
        z_y: Tensor,
        plan: WindowPlan,
        source: Source | None = None,
    ) -> Prediction:
        """Predict ``z_0``.

        Args:
            x_t: ``(B, C, h, w)`` noisy latent, with ``see_shift`` less ``z_y``, divided by its standard deviation; any size.
            t: ``(B,)`` timesteps counted from 0, or what :meth:`read_step` made of them.
            low_res: ``(B, C_low, H_low, W_low)`` low-resolution image in [-1, 1]; resized (bicubic) to the latent grid.
            z_y: ``(B, C, h, w)`` latent of the upsampled low-resolution image; used by ``predict_shift`` and the encoder of
                the source only.
            plan: From :meth:`plan`, for this latent size.
            source: From :meth:`read_source`, if it was asked before; else it is asked.
        """
        height, width = x_t.shape[-2:]
        step = self.read_step(t) if isinstance(t, Tensor) else t
        mask = self._latent_mask(plan)  # (B, 1, h', w'), h' and w' padded to whole windows
        shown = [x_t, on_latent_grid(low_res, self.config.condition_channels, (height, width))]
        if self.config.predict_shift:
            inside = mask[..., :height, :width].to(x_t.dtype)  # (B, 1, h, w)
            noisy = x_t if self.config.noise_everywhere else x_t * inside
            shown = [noisy, *shown[1:], *(() if self.config.see_shift else (z_y,)), inside]
        seen = padded_to(torch.cat(shown, dim=1), self.config.window_size)  # (B, C_seen, h', w')
        if self.config.trunk_channels:
            source = self.read_source(low_res, z_y) if source is None else source
            upstream, downstream = self._with_trunk(seen, source, step, plan)
        else:
            upstream, context = self.upstream(seen, step.upstream)  # (B, C, h', w'), (B, rows, columns, hidden)
            downstream = self.downstream(seen, step.downstream, context, plan) if plan.window_count else upstream
        # M downstream + (1 - M) upstream, (B, C, h', w'); with a trunk they meet before the head.
        merged = downstream if self.config.trunk_channels else torch.where(mask, downstream, upstream)
        answers = (answer[..., :height, :width] for answer in (merged, upstream, downstream))  # (B, C, h, w) each
        if self.config.predict_shift:
            answers = (z_y + answer for answer in answers)
        said = Prediction(*answers)
        return said if self.config.upstream else said._replace(upstream=said.downstream)

    def _with_trunk(self, seen: Tensor, source: Source | None, step: Step, plan: WindowPlan) -> tuple[Tensor, Tensor]:
        """Answers of both streams through the one head."""
        # Channels last from here to the answer: convolutions of few channels take half the time that way on CPUs. What a
        # layer has just made is nobody else's: adding in place spares a map that would not fit into the cache.
        features = self.stem(seen.contiguous(memory_format=torch.channels_last))  # (B, trunk_channels, h', w')
        if source is not None:
            features = features.add_(source.features)
        for block, modulation in zip(self.trunk, step.trunk, strict=True):
            features = block(features, modulation)
        # (B, trunk_channels, h', w') and (B, rows, columns, hidden)
        coarse, context = self.upstream(features, step.upstream)
        # What the head sees beside the streams' answers; with ``streams_alone`` it learns of the noisy latent from them only.
        beside = source.features if self.config.streams_alone and source is not None else features
        if self.config.upstream_outside:
            coarse = coarse * ~self._latent_mask(plan)
        without_detail = coarse.add_(beside)
        base = source.shift if source is not None else None
        if not plan.window_count:
            upstream = self._read_out(without_detail, step, base)
            return upstream, upstream
        detail = self.downstream(features, step.downstream, context, plan)  # (B, trunk_channels, h', w')
        downstream = self._read_out(detail.add_(without_detail), step, base)
        # Only training asks for the upstream's own answer; the sampler uses the merged one.
        upstream = self._read_out(without_detail, step, base) if self.training and self.config.upstream else downstream
        return upstream, downstream

    def _read_out(self, features: Tensor, step: Step, base: Tensor | None) -> Tensor:
        for block, modulation in zip(self.head, step.head, strict=True):
            features = block(features, modulation)
        answer: Tensor = self.read_out(features)  # (B, C, h', w')
        return answer if base is None else answer.add_(base)

    def _latent_mask(self, plan: WindowPlan) -> Tensor:
        """``(B, 1, h, w)`` bool leaves on the padded latent grid."""
        return on_finer_grid(plan.token_mask, self.config.downstream_patch)[:, None]


def grow_source(denoiser: TwoStreamDenoiser, known_blocks: int) -> None:
    """Make what the encoder of the source has beyond ``known_blocks`` add nothing yet (Net2Net, Chen et al., ICLR 2016).

    Args:
        denoiser: Network whose first ``known_blocks`` blocks were trained elsewhere; changed in place. One without an
            encoder of the source, or whose encoder was not known at all, is left as it is.
        known_blocks: Number of those blocks.
    """
    if denoiser.config.source_channels and known_blocks:
        for block in denoiser.source.blocks[known_blocks:]:
            cast(ConvBlock, block).start_as_identity()
