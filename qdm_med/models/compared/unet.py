"""The U-Net of latent diffusion, for the methods that QDM is compared with: one stream, no mask.

MONAI's ``DiffusionModelUNet``, told what :class:`qdm_med.models.qdm.denoiser.TwoStreamDenoiser` is told and asked the same: it
predicts the shift ``z_0 - z_y`` and its last convolution starts at zero, so that an untrained one is bicubic. It normalises groups of
channels over the whole tile, which the two-stream network does not: tiles of one slice agree less well, and small
networks learn more slowly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.models.latent_grid import on_latent_grid, padded_to
from qdm_med.models.qdm.denoiser import Prediction
from qdm_med.models.qdm.windows import WindowPlan


@dataclass(frozen=True)
class LatentUnetConfig:
    """Shape of a U-Net over latents.

    Attributes:
        latent_channels: Channels of the latents.
        condition_channels: Channels of the low-resolution image.
        trained_size: Side of the latents that fit into a tile; larger slices are cut.
        channels: Width of each level, finest first; each level has half the rows and columns of the one before.
        res_blocks: Residual blocks of each level on the way down; one more on the way up.
        attention: Whether each level attends within itself.
        head_channels: Channels of an attention head.
        norm_groups: Groups of channels that are normalised together; must divide all ``channels``.
    """

    latent_channels: int = 8
    condition_channels: int = 1
    trained_size: int = 128
    channels: tuple[int, ...] = (48, 96, 128)
    res_blocks: tuple[int, ...] = (1, 1, 1)
    attention: tuple[bool, ...] = (False, False, True)
    head_channels: int = 32
    norm_groups: int = 8

    kind: ClassVar[str] = "unet"
    downstream_patch: ClassVar[int] = 2
    """Side of a leaf in latent pixels, all of which are active; as of the two-stream network, so that counts compare."""
    window: ClassVar[int] = 8
    """Side of a window in leaves: latents are padded to whole windows."""
    see_shift: ClassVar[bool] = False
    """It sees ``z_t`` and ``z_y`` side by side."""
    noise_everywhere: ClassVar[bool] = True
    """There is no mask that could keep noise out."""
    has_mask: ClassVar[bool] = False
    sees_nearby_only: ClassVar[bool] = False
    needs_monai: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Reject shapes that the layers would reject only later."""
        levels = len(self.channels)
        for name in ("res_blocks", "attention"):
            if len(getattr(self, name)) != levels:
                raise ConfigError(f"{name} needs a value for each of the channels {self.channels}")
        if not levels or self.window_size % 2 ** (levels - 1):
            raise ConfigError(f"a U-Net of {levels} levels cannot halve {self.window_size} latent pixels so often")
        if uneven := [width for width in self.channels if width % self.norm_groups]:
            raise ConfigError(f"norm_groups {self.norm_groups} must divide all channels, not {uneven[0]}")
        attending = [width for width, attends in zip(self.channels, self.attention, strict=True) if attends]
        # The block between the way down and the way up always attends.
        if uneven := [width for width in (*attending, self.channels[-1]) if width % self.head_channels]:
            raise ConfigError(f"head_channels {self.head_channels} must divide channels that attend, not {uneven[0]}")

    @property
    def finest_features(self) -> int:
        """Features a latent pixel where the network has most of them: the width of the finest level."""
        return self.channels[0]

    @property
    def window_size(self) -> int:
        """Side of a window in latent pixels."""
        return self.window * self.downstream_patch


class LatentUnet(nn.Module):
    """Predict the high-resolution latent from a noisy one, ``z_y`` and the low-resolution image."""

    def __init__(self, config: LatentUnetConfig) -> None:
        super().__init__()
        # MONAI takes seconds to import, and the two-stream network needs nothing of it.
        from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

        self.config = config
        self.unet = DiffusionModelUNet(
            spatial_dims=2,
            in_channels=2 * config.latent_channels + config.condition_channels,
            out_channels=config.latent_channels,
            num_res_blocks=config.res_blocks,
            channels=config.channels,
            attention_levels=config.attention,
            norm_num_groups=config.norm_groups,
            num_head_channels=config.head_channels,
            use_flash_attention=True,
        )

    def plan(self, mask: Tensor) -> WindowPlan:
        """Windows of a latent: all of them, whatever ``mask``, ``(B, h / 2, w / 2)`` bool, says."""
        return WindowPlan.from_leaves(torch.ones_like(mask), window=self.config.window, leaf_mode=False)

    def read_step(self, t: Tensor) -> Tensor:
        """Pass ``(B,)`` timesteps through: this network embeds them itself."""
        return t

    def read_source(self, low_res: Tensor, z_y: Tensor) -> None:
        """Return nothing: all layers see the noisy latent."""

    def expect(self, low_res: Tensor, z_y: Tensor) -> Tensor:
        """Refuse: without the noisy latent this network has no answer."""
        raise ConfigError("a U-Net has no encoder of the source; set training.source_weight to 0")

    def forward(
        self, x_t: Tensor, t: Tensor, low_res: Tensor, z_y: Tensor, plan: WindowPlan, source: Tensor | None = None
    ) -> Prediction:
        """Predict ``z_0``; arguments as for :meth:`qdm_med.models.qdm.denoiser.TwoStreamDenoiser.forward`.

        Returns:
            One answer in the place of all three.
        """
        height, width = x_t.shape[-2:]
        image = on_latent_grid(low_res, self.config.condition_channels, (height, width))
        seen = padded_to(torch.cat([x_t, image, z_y], dim=1), self.config.window_size)
        z_0 = z_y + self.unet(seen, t.expand(len(x_t)))[..., :height, :width]
        return Prediction(z_0, z_0, z_0)
