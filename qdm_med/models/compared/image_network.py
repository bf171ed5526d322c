"""Image super-resolution networks as the library ``spandrel`` provides them: RRDB (ESRGAN, BSRGAN) and SwinIR."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from qdm_med.errors import ConfigError
from qdm_med.resample import upsample

Architecture = Literal["rrdb", "swinir"]

SPANDREL_IS_MISSING = "image networks need the spandrel package; install qdm-med[compare]"


@dataclass(frozen=True)
class ImageNetworkConfig:
    """Shape of an image network for one scale and one channel.

    Attributes:
        architecture: ``"rrdb"``: residual-in-residual dense blocks (ESRGAN, arXiv 1809.00219); ``"swinir"``: SwinIR
            (arXiv 2108.10257) with its light upsampler, one convolution before the pixel shuffle.
        features: Channels of the trunk; the dense blocks' growth is 32 in every published RRDB network.
        blocks: Residual blocks of the trunk; of SwinIR, blocks of ``layers`` transformer layers each.
        layers: Transformer layers a block, of SwinIR only.
        heads: Attention heads, of SwinIR only.
        window: Side of the attention's windows in low-resolution pixels, of SwinIR only.
        over_bicubic: Whether the network's answer is added to the bicubically enlarged input. Such a network starts from
            bicubic and need not learn to enlarge first; published ones do without.
    """

    architecture: Architecture = "rrdb"
    features: int = 64
    blocks: int = 23
    layers: int = 6
    heads: int = 6
    window: int = 8
    over_bicubic: bool = True

    def __post_init__(self) -> None:
        """Reject shapes that cannot be, or that spandrel would take for others."""
        for name in ("features", "blocks", "layers", "heads", "window"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.architecture == "swinir" and self.features % self.heads:
            raise ConfigError(f"features {self.features} must be divisible by heads {self.heads}")
        if self.architecture == "swinir" and self.window == 7:
            raise ConfigError("window 7 marks SwinIR's JPEG networks, which work in 0 to 255; take 8")


class ImageNetwork(nn.Module):
    """An image network with random weights; with ``over_bicubic`` it starts as bicubic.

    Args:
        config: Shape of the network.
        scale: Magnification.

    Raises:
        ConfigError: If spandrel is not installed or the architecture has no such scale.
    """

    def __init__(self, config: ImageNetworkConfig, scale: int) -> None:
        super().__init__()
        self.config, self.scale = config, scale
        self.network = _rrdb(config, scale) if config.architecture == "rrdb" else _swinir(config, scale)
        if config.over_bicubic:
            *_, last = (module for module in self.network.modules() if isinstance(module, nn.Conv2d))
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]  # both architectures' last convolutions have one

    def forward(self, low_res: Tensor) -> Tensor:
        """``(B, 1, H, W)`` in [-1, 1] -> ``(B, 1, scale H, scale W)``, about in [-1, 1]; the network sees [0, 1]."""
        image = (low_res + 1.0) / 2.0
        return 2.0 * enlarge(self.network, image, self.scale, over_bicubic=self.config.over_bicubic) - 1.0


def enlarge(network: Callable[[Tensor], Tensor], image: Tensor, scale: int, *, over_bicubic: bool) -> Tensor:
    """Run a network on ``(B, C, H, W)`` images in [0, 1]; ``(B, C, scale H, scale W)``, not clamped."""
    answer = network(image)
    return answer + upsample(image, scale) if over_bicubic else answer


def _rrdb(config: ImageNetworkConfig, scale: int) -> nn.Module:
    try:
        from spandrel.architectures.ESRGAN import ESRGAN  # an extra: the rest works without it
    except ImportError:
        raise ConfigError(SPANDREL_IS_MISSING) from None
    if scale & (scale - 1):
        raise ConfigError(f"an RRDB network doubles the image again and again: x{scale} is no power of 2; take swinir")
    return ESRGAN(in_nc=1, out_nc=1, num_filters=config.features, num_blocks=config.blocks, scale=scale)


def _swinir(config: ImageNetworkConfig, scale: int) -> nn.Module:
    try:
        from spandrel.architectures.SwinIR import SwinIR  # an extra: the rest works without it
    except ImportError:
        raise ConfigError(SPANDREL_IS_MISSING) from None
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.meshgrid")  # its window index is what meshgrid makes by default
        return SwinIR(
            img_size=8 * config.window,  # of the masks that are kept; those of other sizes are made as they come
            in_chans=1,
            embed_dim=config.features,
            depths=[config.layers] * config.blocks,
            num_heads=[config.heads] * config.blocks,
            window_size=config.window,
            mlp_ratio=2.0,
            drop_path_rate=0.0,  # its draws would come from the global generator: no run could be resumed
            upscale=scale,
            upsampler="pixelshuffledirect",
        )
