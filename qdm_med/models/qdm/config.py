"""Shapes of the two-stream denoiser: its configuration and the presets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from qdm_med.errors import ConfigError


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
        source_blocks: Residual blocks of that encoder. It sees what does not change from step to step, is run once a slice,
            and adds its features to the trunk's: depth that no step pays for.
        source_sees: Input of that encoder: ``"latent"``, the low-resolution image and ``z_y``, or ``"contrast"``, the image and its
            local contrast, compressed so that ten HU and a thousand are both of a size that convolutions see.
        source_is_base: Whether that encoder's own guess of ``z_0 - z_y`` is what the streams' answers are added to, so that
            steps need only say what it cannot.
        streams_alone: Whether what depends on the noisy latent reaches the head through the two streams alone: the head then sees
            their answers and the source's features, and no convolution of ``z_t`` that would leave the streams idle.
        upstream_outside: Whether a network with a trunk takes the upstream's answer in inactive leaves alone, as the paper does;
            the downstream then answers for the active ones. Else both answers are added there.
        predict_shift: Whether the network predicts ``z_0 - z_y`` instead of ``z_0``. It then sees ``z_y`` and the mask
            beside ``z_t``, and of ``z_t`` only where the chain carries noise: elsewhere training could read ``z_0`` off a
            mixture that does not exist at test time.
        see_shift: Whether, instead of ``z_t`` and ``z_y``, it sees ``z_t - z_y``: what is left once the known is taken off.
        noise_everywhere: Whether the chain carries its noise in inactive leaves, too, where the paper has none. The quadtree
            then decides where the downstream is computed, and no longer where the answer is a sample: without noise there
            is one answer, and training for likeness to CT makes it smooth or gives it a regular pattern.
        attend_to_active_only: Whether tokens of inactive leaves are hidden from the attention inside a window, so that
            only active leaves need to be computed.
        rescale_positions: Whether positions of other sizes are rescaled to the trained extent.
        reach: Upstream tokens around a window to which its tokens attend, in both streams; 0: to all of the map, as in the paper. With
            a reach the answer follows from its surroundings and hardly depends on the tile: places are those around a window
            and within it (learned summands of the scores, as in Swin, arXiv 2103.14030), not those of the map, and
            ``rescale_positions`` has no effect.
        upstream: Whether there is an upstream. Without it (the paper's Table 7) the downstream answers everywhere, every leaf
            active, and attends to one learned token in place of the upstream's.
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
    source_sees: Literal["latent", "contrast"] = "latent"
    source_is_base: bool = False
    streams_alone: bool = False
    upstream_outside: bool = False
    predict_shift: bool = False
    see_shift: bool = False
    noise_everywhere: bool = False
    attend_to_active_only: bool = False
    rescale_positions: bool = True
    reach: int = 0
    upstream: bool = True

    needs_monai: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Reject shapes that the layers would reject only later."""
        if self.hidden % self.heads or self.hidden % 4:
            raise ConfigError(f"hidden {self.hidden} must be divisible by heads {self.heads} and by 4")
        if self.window_size % self.upstream_patch:
            raise ConfigError(f"a window of {self.window_size} latent pixels must hold whole upstream patches")
        if self.trained_size % self.window_size:
            raise ConfigError(f"trained_size {self.trained_size} must be a multiple of the window, {self.window_size}")
        self._check_options()

    def _check_options(self) -> None:
        """Reject options of a part that the network does not have."""
        refused = {
            "trunk_blocks and head_blocks need trunk_channels": (self.trunk_blocks or self.head_blocks)
            and not self.trunk_channels,
            "source_channels needs trunk_channels: the encoder of the source adds to the trunk": self.source_channels
            and not self.trunk_channels,
            "source_blocks and source_is_base need source_channels": (self.source_blocks or self.source_is_base)
            and not self.source_channels,
            "streams_alone needs source_is_base: the head sees nothing but the source and the streams": self.streams_alone
            and not self.source_is_base,
            "upstream_outside needs trunk_channels; without a trunk the streams are merged so anyway": self.upstream_outside
            and not self.trunk_channels,
            "without upstream every leaf is the downstream's; set noise_everywhere": not self.upstream
            and not self.noise_everywhere,
            f"reach must be at least 0, got {self.reach}": self.reach < 0,
            "reach needs an upstream to attend to": self.reach and not self.upstream,
            "see_shift needs predict_shift": self.see_shift and not self.predict_shift,
            f"source_sees must be latent or contrast, got {self.source_sees!r}": self.source_sees
            not in ("latent", "contrast"),
        }
        for reason, holds in refused.items():
            if holds:
                raise ConfigError(reason)

    @property
    def has_mask(self) -> bool:
        """Whether the quadtree decides where the network is run."""
        return self.upstream

    @property
    def sees_nearby_only(self) -> bool:
        """Whether an answer follows from its surroundings alone, whatever the size of the map."""
        return self.reach > 0

    @property
    def window_size(self) -> int:
        """Side of a downstream window in latent pixels."""
        return self.window * self.downstream_patch

    @property
    def finest_features(self) -> int:
        """Features a latent pixel where the network has most of them: a token's, spread over its patch."""
        return self.hidden // self.downstream_patch**2


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
            noise_everywhere=True,
        ),
        "c": DenoiserConfig(
            latent_channels=16,
            hidden=160,
            depth=4,
            heads=5,
            trunk_channels=48,
            head_blocks=1,
            source_channels=48,
            source_blocks=8,
            source_sees="contrast",
            source_is_base=True,
            streams_alone=True,
            upstream_outside=True,
            predict_shift=True,
            see_shift=True,
            noise_everywhere=True,
            attend_to_active_only=True,
            rescale_positions=False,
            reach=1,
        ),
        "s": DenoiserConfig(condition_channels=3, hidden=384, depth=6, heads=6),
        "b": DenoiserConfig(condition_channels=3, hidden=768, depth=6, heads=12),
        "l": DenoiserConfig(condition_channels=3, hidden=1024, depth=12, heads=16),
    }
)
"""T and C are the embedded models, made for CPUs; S, B and L are the paper's (arXiv 2503.12015, Table 1), conditioned on three
channels as released. A configuration names one as ``preset`` and states only what it changes."""


def with_preset(section: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Expand a ``denoiser`` section that names a preset: the preset's numbers, with the section's own over them.

    >>> with_preset({"preset": "s", "depth": 2}, where="a.yaml")["heads"]
    6

    Args:
        section: The section as it was written, with or without ``preset``.
        where: Name of the file or section, for errors.

    Raises:
        ConfigError: If there is no such preset.
    """
    own = dict(section)
    name = own.pop("preset", None)
    if name is None:
        return own
    if name not in PRESETS:
        raise ConfigError(f"{where}: denoiser.preset {name!r} is unknown; known: {', '.join(PRESETS)}")
    return asdict(PRESETS[name]) | own
