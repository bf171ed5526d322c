"""Residual convolutions of the tiny preset: its trunk, its head and its encoder of the source.

Sums are added in place to what a convolution has just made, which its gradient does not need: a map less in memory.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qdm_med.models.qdm.blocks import Modulated, modulate, zero_linear


def zero_conv(inputs: int, outputs: int) -> nn.Conv2d:
    """Build a 3x3 convolution that starts as zero."""
    layer = nn.Conv2d(inputs, outputs, 3, padding=1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]  # torch types an optional bias
    return layer


class ConditionedConvBlock(Modulated):
    """Residual 3x3 convolutions whose middle is shifted and scaled by the timestep; no normalisation layer."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_conv(channels, channels)
        self.modulation = nn.Sequential(nn.SiLU(), zero_linear(hidden, 2 * channels))

    def forward(self, x: Tensor, modulation: Tensor) -> Tensor:
        """``(B, C, H, W)`` features and their modulation, ``(B or 1, 2 C)`` -> ``(B, C, H, W)``."""
        shift, scale = modulation[:, :, None, None].chunk(2, dim=1)
        middle = modulate(self.conv1(F.silu(x)), shift, scale)
        changed: Tensor = self.conv2(F.silu(middle, inplace=True))
        return changed.add_(x)


class ConvBlock(nn.Module):
    """Two 3x3 convolutions with a ReLU between them, added to their input (EDSR, Lim et al., CVPRW 2017).

    MONAI's ``ResidualUnit`` can be told to be this block, but takes seconds to import.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, C, H, W)`` -> ``(B, C, H, W)``."""
        changed: Tensor = self.conv2(F.relu(self.conv1(x), inplace=True))
        return changed.add_(x)

    def start_as_identity(self) -> None:
        """Let the second convolution answer zero, from where training can take it."""
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]  # torch types an optional bias


class SourceEncoder(nn.Module):
    """Residual convolutions, as of a super-resolution CNN without its magnification; both its ends start at zero.

    Args:
        channels_in: Channels of what it sees.
        channels: Width of its blocks.
        blocks: Number of them.
        channels_out: Channels of its features.
        latent_channels: Channels of its own answer.
    """

    def __init__(self, channels_in: int, channels: int, blocks: int, channels_out: int, latent_channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels_in, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(ConvBlock(channels) for _ in range(blocks)))
        self.out = zero_conv(channels, channels_out)
        self.shift = zero_conv(channels, latent_channels)

    def deep(self, x: Tensor) -> Tensor:
        """Features from which ``out`` (features for others) and ``shift`` (its own guess of ``z_0 - z_y``) are read.

        Args:
            x: ``(B, C_in, H, W)``.

        Returns:
            ``(B, channels, H, W)``.
        """
        deep: Tensor = self.blocks(self.stem(x.contiguous(memory_format=torch.channels_last)))
        return deep
