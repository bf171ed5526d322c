"""The two-stream denoiser of QDM and its presets.

One design with three options: the paper predicts ``z_0`` and merges the two streams' answers; the tiny preset
predicts the shift ``z_0 - z_y`` from a convolutional trunk, adds both streams' answers to the trunk's features and reads
them out with one convolutional head (PAPER section 11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.models.blocks import ConditionedConvBlock, SourceEncoder, zero_conv
from qdm_med.models.embeddings import TimestepEmbedder
from qdm_med.models.quadtree import on_finer_grid
from qdm_med.models.streams import Downstream, StreamShape, Upstream
from qdm_med.models.windows import WindowPlan


@dataclass(frozen=True)
class DenoiserConfig:
    """Shape of a two-stream denoiser.

    Attributes:
        latent_channels: Channels of the latents.
        condition_channels: Channels of the low-resolution image: 1 for CT, 3 for the released weights.
        trained_size: Side of the latents in training; fixes the position tables.
        hidden: Token width of both streams.
        depth: Blocks of each stream.
        heads: Attention heads; must divide ``hidden``.
        mlp_ratio: Width of an MLP in units of ``hidden``.
        upstream_patch: Side of an upstream patch in latent pixels.
        downstream_patch: Side of a downstream patch (a leaf) in latent pixels.
        window: Side of a downstream window in tokens.
        trunk_channels: Width of the convolutional trunk and head; 0: none, as in the paper.
        trunk_blocks: Residual blocks of the trunk, before the streams.
        head_blocks: Residual blocks of the head, after the streams.
        source_channels: Width of the encoder of the source; 0: none, as in the paper.
        source_blocks: Residual blocks of that encoder. It sees what does not change from step to step, the low-resolution
            image and ``z_y``, is run once a slice, and adds its features to the trunk's: depth that no step pays for.
        predict_shift: Whether the network predicts ``z_0 - z_y`` instead of ``z_0``. It then sees ``z_y`` and the mask
            beside ``z_t``, and of ``z_t`` only where the chain carries noise: elsewhere training could read ``z_0`` off a
            mixture that does not exist at test time.
        noise_everywhere: Whether the chain carries its noise in inactive leaves, too, where the paper has none. The quadtree
            then decides where the downstream is computed, and no longer where the answer is a sample: without noise there
            is one answer, and training for likeness to CT makes it smooth or gives it a regular pattern.
        attend_to_active_only: Whether tokens of inactive leaves are hidden from the attention inside a window, so that
            only active leaves need to be computed.
        rescale_positions: Whether positions of other sizes are rescaled to the trained extent.
    """

    latent_channels: int = 3
    condition_channels: int = 1
    trained_size: int = 128
    hidden: int = 384
    depth: int = 6
    heads: int = 6
    mlp_ratio: int = 4
    upstream_patch: int = 8
    downstream_patch: int = 2
    window: int = 8
    trunk_channels: int = 0
    trunk_blocks: int = 0
    head_blocks: int = 0
    source_channels: int = 0
    source_blocks: int = 0
    predict_shift: bool = False
    noise_everywhere: bool = False
    attend_to_active_only: bool = False
    rescale_positions: bool = True

    def __post_init__(self) -> None:
        """Check what the layers would only find out later."""
        if self.hidden % self.heads or self.hidden % 4:
            raise ConfigError(f"hidden {self.hidden} must be divisible by heads {self.heads} and by 4")
        if self.window_size % self.upstream_patch:
            raise ConfigError(f"a window of {self.window_size} latent pixels must hold whole upstream patches")
        if self.trained_size % self.window_size:
            raise ConfigError(f"trained_size {self.trained_size} must be a multiple of the window, {self.window_size}")
        if not self.trunk_channels and (self.trunk_blocks or self.head_blocks):
            raise ConfigError("trunk_blocks and head_blocks need trunk_channels")
        if self.source_channels and not self.trunk_channels:
            raise ConfigError("source_channels needs trunk_channels: the encoder of the source adds to the trunk")
        if self.source_blocks and not self.source_channels:
            raise ConfigError("source_blocks needs source_channels")

    @property
    def window_size(self) -> int:
        """Side of a downstream window in latent pixels."""
        return self.window * self.downstream_patch


PRESETS: Mapping[str, DenoiserConfig] = MappingProxyType(
    {
        "t": DenoiserConfig(
            latent_channels=8,
            hidden=128,
            depth=3,
            heads=4,
            trunk_channels=48,
            trunk_blocks=2,
            head_blocks=2,
            source_channels=64,
            source_blocks=8,
            predict_shift=True,
            attend_to_active_only=True,
            rescale_positions=False,
        ),
        "s": DenoiserConfig(hidden=384, depth=6, heads=6),
        "b": DenoiserConfig(hidden=768, depth=6, heads=12),
        "l": DenoiserConfig(hidden=1024, depth=12, heads=16),
    }
)
"""T for CPUs (PAPER section 11), S, B and L of the paper (Table 1)."""


def paper_preset(name: str, *, condition_channels: int = 3) -> DenoiserConfig:
    """S, B or L as released, conditioned on an RGB image."""
    return replace(PRESETS[name], condition_channels=condition_channels)


class Prediction(NamedTuple):
    """What the denoiser says of ``z_0``, each ``(B, C, h, w)``.

    Attributes:
        merged: Downstream in active leaves, upstream elsewhere: what the sampler uses.
        upstream: The upstream's answer everywhere.
        downstream: The downstream's answer; meaningful in active leaves.
    """

    merged: Tensor
    upstream: Tensor
    downstream: Tensor


class TwoStreamDenoiser(nn.Module):
    """Predict the high-resolution latent from a noisy one and the low-resolution image."""

    def __init__(self, config: DenoiserConfig) -> None:
        super().__init__()
        self.config = config
        latent, condition = config.latent_channels, config.condition_channels
        seen = latent + condition + (latent + 1 if config.predict_shift else 0)
        coarse = StreamShape(
            patch=config.upstream_patch,
            trained_size=config.trained_size,
            rescale=config.rescale_positions,
            hidden=config.hidden,
            depth=config.depth,
            heads=config.heads,
            mlp_ratio=config.mlp_ratio,
        )
        width = config.trunk_channels
        self.upstream = Upstream(width or seen, width or latent, coarse)
        self.downstream = Downstream(width or seen, width or latent, replace(coarse, patch=config.downstream_patch))
        if width:
            self.time = TimestepEmbedder(config.hidden)
            self.stem = nn.Conv2d(seen, width, 3, padding=1)
            self.trunk = nn.ModuleList(ConditionedConvBlock(width, config.hidden) for _ in range(config.trunk_blocks))
            self.head = nn.ModuleList(ConditionedConvBlock(width, config.hidden) for _ in range(config.head_blocks))
            self.read_out = zero_conv(width, latent)
        if config.source_channels:
            self.source = SourceEncoder(latent + condition, config.source_channels, config.source_blocks, width, latent)

    def plan(self, mask: Tensor) -> WindowPlan:
        """Work out once per slice which windows are computed.

        Args:
            mask: ``(B, h / 2, w / 2)`` bool leaves on the downstream token grid of a ``(h, w)`` latent (rounded up).
        """
        return WindowPlan.from_leaves(mask, window=self.config.window, leaf_mode=self.config.attend_to_active_only)

    def read_source(self, low_res: Tensor, z_y: Tensor) -> Tensor | None:
        """Features of what all steps have in common, for :meth:`forward`, or ``None`` if there is no encoder of the source.

        Args:
            low_res: As for :meth:`forward`.
            z_y: As for :meth:`forward`.
        """
        if not self.config.source_channels:
            return None
        features: Tensor = self.source(self._without_noise(low_res, z_y))
        return features

    def expect(self, low_res: Tensor, z_y: Tensor) -> Tensor:
        """What the encoder of the source expects of ``z_0``, ``(B, C, h, w)``; no step uses it, training may.

        Args:
            low_res: As for :meth:`forward`.
            z_y: As for :meth:`forward`.

        Raises:
            ConfigError: If there is no encoder of the source.
        """
        if not self.config.source_channels:
            raise ConfigError("the network has no encoder of the source; set source_channels and source_blocks")
        height, width = z_y.shape[-2:]
        shift: Tensor = self.source.answer(self._without_noise(low_res, z_y))
        return z_y + shift[..., :height, :width]

    def _without_noise(self, low_res: Tensor, z_y: Tensor) -> Tensor:
        """What all steps have in common, padded to whole windows."""
        image = on_latent_grid(low_res, self.config.condition_channels, (z_y.shape[-2], z_y.shape[-1]))
        return padded_to(torch.cat([image, z_y], dim=1), self.config.window_size)

    def forward(
        self, x_t: Tensor, t: Tensor, low_res: Tensor, z_y: Tensor, plan: WindowPlan, source: Tensor | None = None
    ) -> Prediction:
        """Predict ``z_0``.

        Args:
            x_t: ``(B, C, h, w)`` noisy latent, already divided by its standard deviation; any size.
            t: ``(B,)`` timesteps counted from 0.
            low_res: ``(B, C_low, H_low, W_low)`` low-resolution image in [-1, 1]; resized (bicubic) to the latent grid.
            z_y: ``(B, C, h, w)`` latent of the upsampled low-resolution image; used by ``predict_shift`` and the encoder of
                the source only.
            plan: From :meth:`plan`, for this latent size.
            source: From :meth:`read_source`, if it was asked before; else it is asked.
        """
        height, width = x_t.shape[-2:]
        mask = self._latent_mask(plan)
        shown = [x_t, on_latent_grid(low_res, self.config.condition_channels, (height, width))]
        if self.config.predict_shift:
            inside = mask[..., :height, :width].to(x_t.dtype)
            noisy = x_t if self.config.noise_everywhere else x_t * inside
            shown = [noisy, *shown[1:], z_y, inside]
        seen = padded_to(torch.cat(shown, dim=1), self.config.window_size)
        if self.config.trunk_channels:
            source = self.read_source(low_res, z_y) if source is None else source
            upstream, downstream = self._with_trunk(seen, source, t, plan)
        else:
            upstream, context = self.upstream(seen, t)
            downstream = self.downstream(seen, t, context, plan) if plan.window_count else upstream
        merged = downstream if self.config.trunk_channels else torch.where(mask, downstream, upstream)
        answers = (answer[..., :height, :width] for answer in (merged, upstream, downstream))
        if self.config.predict_shift:
            answers = (z_y + answer for answer in answers)
        return Prediction(*answers)

    def _with_trunk(self, seen: Tensor, source: Tensor | None, t: Tensor, plan: WindowPlan) -> tuple[Tensor, Tensor]:
        """Both streams' answers through the one head."""
        condition = self.time(t)
        # Channels last from here to the answer: convolutions of few channels take half the time that way on CPUs.
        features = self.stem(seen.contiguous(memory_format=torch.channels_last))
        if source is not None:
            features = features.add_(source)
        for block in self.trunk:
            features = block(features, condition)
        coarse, context = self.upstream(features, t)
        without_detail = coarse.add_(features)
        if not plan.window_count:
            upstream = self._read_out(without_detail, condition)
            return upstream, upstream
        detail = self.downstream(features, t, context, plan)
        downstream = self._read_out(detail.add_(without_detail), condition)
        # Only training asks for the upstream's own answer; the sampler uses the merged one.
        upstream = self._read_out(without_detail, condition) if self.training else downstream
        return upstream, downstream

    def _read_out(self, features: Tensor, condition: Tensor) -> Tensor:
        for block in self.head:
            features = block(features, condition)
        answer: Tensor = self.read_out(features)
        return answer

    def _latent_mask(self, plan: WindowPlan) -> Tensor:
        """``(B, 1, h, w)`` bool leaves on the padded latent grid."""
        return on_finer_grid(plan.token_mask, self.config.downstream_patch)[:, None]


def on_latent_grid(low_res: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """The low-resolution image on the latent grid, grey repeated where the network was made for RGB."""
    image = low_res.expand(-1, channels, -1, -1)
    if image.shape[-2:] == size:
        return image
    return F.interpolate(image, size=size, mode="bicubic", align_corners=False)


def padded_to(x: Tensor, side: int) -> Tensor:
    """Pad to whole windows of ``side`` latent pixels by repeating the border, which invents no edge."""
    height, width = x.shape[-2:]
    if height % side == 0 and width % side == 0:
        return x  # padding by nothing would copy
    return F.pad(x, (0, -width % side, 0, -height % side), mode="replicate")


def count_parameters(model: nn.Module) -> int:
    """Parameters, the fixed position tables included, as the paper counts them."""
    positions = sum(buffer.numel() for name, buffer in model.named_buffers() if name.endswith("positions"))
    return positions + sum(parameter.numel() for parameter in model.parameters())
