"""Names of the tensors in the paper's released checkpoints, translated to ours and back.

The released denoiser names its two streams as we do; the released autoencoder has latent-diffusion names, and its
attention projections are 1x1 convolutions. Only names and shapes change: a conversion there and back is exact.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from qdm_med.errors import CheckpointError
from qdm_med.models.autoencoder.kl_vae import AutoencoderConfig
from qdm_med.models.qdm.config import DenoiserConfig
from qdm_med.models.qdm.denoiser import TwoStreamDenoiser
from qdm_med.models.qdm.streams import NoUpstream
from qdm_med.models.qdm.windows import to_windows

StateDict = dict[str, Tensor]

_POSITIONS = ("upstream.x_embedder.pos_embed", "downstream.x_embedder.pos_embed")
"""Fixed tables in the released file; ours are computed."""

_DENOISER_NAMES = (
    ("x_embedder.proj", "embed.project"),
    ("x_embedder.norm", "embed.norm"),
    ("t_embedder.mlp", "time.mlp"),
    ("final_layer.adaLN_modulation", "final.modulation"),
    ("final_layer.linear", "final.linear"),
    ("adaLN_modulation1", "window_modulation"),
    ("adaLN_modulation2", "context_modulation"),
    ("adaLN_modulation", "modulation"),
    ("attn1.qkv", "window_attention.qkv"),
    ("attn1.proj", "window_attention.out"),
    ("attn2.kv", "context_attention.kv"),
    ("attn2.q", "context_attention.q"),
    ("attn2.proj", "context_attention.out"),
    ("attn.qkv", "attention.qkv"),
    ("attn.proj", "attention.out"),
    ("mlp1.fc1", "window_mlp.0"),
    ("mlp1.fc2", "window_mlp.2"),
    ("mlp2.fc1", "context_mlp.0"),
    ("mlp2.fc2", "context_mlp.2"),
    ("mlp.fc1", "mlp.0"),
    ("mlp.fc2", "mlp.2"),
)
"""Released name, our name; a longer name stands before the shorter one that it contains."""


def _rename(key: str, names: Iterable[tuple[str, str]]) -> str:
    """Replace the first of some names that stands in ``key`` between dots."""
    for old, new in names:
        renamed, count = re.subn(rf"(?<![^.]){re.escape(old)}(?![^.])", new, key)
        if count:
            return renamed
    return key


def denoiser_from_released(released: Mapping[str, Tensor]) -> StateDict:
    """Rename a released denoiser's weights to ours."""
    return {_rename(key, _DENOISER_NAMES): value.float() for key, value in released.items() if key not in _POSITIONS}


def denoiser_to_released(denoiser: TwoStreamDenoiser) -> StateDict:
    """Rename our denoiser's weights to the released names and add the fixed position tables of the release.

    Raises:
        CheckpointError: If it has no upstream, which the release always has.
    """
    if isinstance(denoiser.upstream, NoUpstream):
        raise CheckpointError("a denoiser without upstream has no counterpart in the released layout")
    back = tuple((new, old) for old, new in _DENOISER_NAMES)
    released = {_rename(key, back): value for key, value in denoiser.state_dict().items()}
    coarse, fine = denoiser.upstream.embed.positions, denoiser.downstream.embed.positions
    windows = to_windows(fine[None], denoiser.config.window)
    return released | dict(zip(_POSITIONS, (coarse.flatten(0, 1)[None], windows), strict=True))


def denoiser_config_from_released(released: Mapping[str, Tensor], *, heads: int | None = None) -> DenoiserConfig:
    """Read a denoiser's shape off its released weights.

    Args:
        released: State dict with released names.
        heads: Attention heads, which no shape shows; default one head per 64 features, as in the paper's presets.

    Raises:
        CheckpointError: If the weights are not a released denoiser's.
    """
    try:
        patch_weight = released["downstream.x_embedder.proj.weight"]
        upstream_patch = released["upstream.x_embedder.proj.weight"].shape[-1]
        latent = released["downstream.final_layer.linear.weight"].shape[0] // patch_weight.shape[-1] ** 2
        grid = int(released["upstream.x_embedder.pos_embed"].shape[1] ** 0.5)
        hidden = patch_weight.shape[0]
        return DenoiserConfig(
            latent_channels=latent,
            condition_channels=patch_weight.shape[1] - latent,
            trained_size=grid * upstream_patch,
            hidden=hidden,
            depth=1 + max(int(key.split(".")[2]) for key in released if key.startswith("upstream.blocks.")),
            heads=heads or max(1, hidden // 64),
            mlp_ratio=released["upstream.blocks.0.mlp.fc1.weight"].shape[0] // hidden,
            upstream_patch=upstream_patch,
            downstream_patch=patch_weight.shape[-1],
        )
    except KeyError as error:
        raise CheckpointError(f"these weights are not a released QDM denoiser: {error.args[0]} is missing") from None


def _autoencoder_half(side: str, levels: int, res_blocks: int) -> list[tuple[str, str]]:
    """Names of one half of the autoencoder, in the order of MONAI's list of blocks."""
    names: list[tuple[str, str]] = []
    middle = [f"{side}.mid.block_1", f"{side}.mid.attn_1", f"{side}.mid.block_2"]
    if side == "encoder":
        steps = [f"{side}.conv_in"]
        for level in range(levels):
            steps += [f"{side}.down.{level}.block.{block}" for block in range(res_blocks)]
            steps += [f"{side}.down.{level}.downsample"] * (level < levels - 1)
        steps += middle
    else:
        steps = [f"{side}.conv_in", *middle]
        for level in reversed(range(levels)):
            steps += [f"{side}.up.{level}.block.{block}" for block in range(res_blocks + 1)]
            steps += [f"{side}.up.{level}.upsample"] * (level > 0)
    steps += [f"{side}.norm_out", f"{side}.conv_out"]
    for index, step in enumerate(steps):
        names += _block_names(step, f"network.{side}.blocks.{index}")
    return names


def _block_names(released: str, ours: str) -> list[tuple[str, str]]:
    """Names of the tensors' owners inside one block."""
    if released.endswith("conv_in"):
        return [(released, f"{ours}.conv")]
    if released.endswith("conv_out"):
        return [(released, f"{ours}.1.conv")]
    if released.endswith("norm_out"):
        return [(released, ours)]
    if released.endswith("downsample"):
        return [(f"{released}.conv", f"{ours}.conv.conv")]
    if released.endswith("upsample"):
        return [(f"{released}.conv", f"{ours}.postconv.conv")]
    if released.endswith("attn_1"):
        inner = (("norm", "norm"), ("q", "attn.to_q"), ("k", "attn.to_k"), ("v", "attn.to_v"))
        return [(f"{released}.{old}", f"{ours}.{new}") for old, new in (*inner, ("proj_out", "attn.out_proj"))]
    inner_conv = (("conv1", "conv1.conv"), ("conv2", "conv2.conv"), ("nin_shortcut", "nin_shortcut.conv"))
    return [
        (f"{released}.{old}", f"{ours}.{new}") for old, new in (("norm1", "norm1"), ("norm2", "norm2"), *inner_conv)
    ]


def autoencoder_names(levels: int, res_blocks: int) -> list[tuple[str, str]]:
    """Released name and ours of the owner of every tensor in a latent-diffusion autoencoder of so many levels."""
    return [
        *_autoencoder_half("encoder", levels, res_blocks),
        *_autoencoder_half("decoder", levels, res_blocks),
        ("quant_conv", "network.quant_conv"),
        ("post_quant_conv", "network.post_quant_conv"),
    ]


def is_projection(key: str) -> bool:
    """Whether one of our tensors is an attention's linear layer, a 1x1 convolution in the released file."""
    return ".attn." in key and key.endswith(".weight")


def autoencoder_from_released(released: Mapping[str, Tensor], config: AutoencoderConfig) -> StateDict:
    """Rename a released autoencoder's weights to ours; its 1x1 attention convolutions become linear layers.

    Raises:
        CheckpointError: If the weights do not fit ``config``.
    """
    return renamed_to_ours(released, dict(autoencoder_names(len(config.channels), config.res_blocks[0])))


def renamed_to_ours(released: Mapping[str, Tensor], owners: Mapping[str, str]) -> StateDict:
    """Rename a released autoencoder's weights, as float32.

    Args:
        released: Weights.
        owners: Released name of each tensor's owner -> ours.

    Raises:
        CheckpointError: If a weight's owner is not among them.
    """
    state: StateDict = {}
    for key, value in released.items():
        owner, _, kind = key.rpartition(".")
        if owner not in owners:
            raise CheckpointError(f"{key} has no place in a latent-diffusion autoencoder of this shape")
        ours = f"{owners[owner]}.{kind}"
        state[ours] = (value[:, :, 0, 0] if is_projection(ours) else value).float()
    return state


def autoencoder_to_released(state: Mapping[str, Tensor], config: AutoencoderConfig) -> StateDict:
    """Rename our weights of the latent-diffusion layout to the released names; latent statistics stay behind."""
    return renamed_to_theirs(state, dict(autoencoder_names(len(config.channels), config.res_blocks[0])))


def renamed_to_theirs(state: Mapping[str, Tensor], names: Mapping[str, str]) -> StateDict:
    """Undo :func:`renamed_to_ours`; weights whose owner has no released name are left out.

    Args:
        state: Our weights.
        names: Released name of each tensor's owner -> ours.
    """
    owners = {ours: theirs for theirs, ours in names.items()}
    released: StateDict = {}
    for key, value in state.items():
        owner, _, kind = key.rpartition(".")
        if owner in owners:
            released[f"{owners[owner]}.{kind}"] = value[:, :, None, None] if is_projection(key) else value
    return released


def autoencoder_config_from_released(released: Mapping[str, Tensor]) -> AutoencoderConfig:
    """Read an autoencoder's shape off its released weights.

    Raises:
        CheckpointError: If the weights are not a latent-diffusion autoencoder's.
    """
    try:
        levels = 1 + max(int(key.split(".")[2]) for key in released if key.startswith("encoder.down."))
        blocks = 1 + max(int(key.split(".")[4]) for key in released if key.startswith("encoder.down.0.block."))
        widths = tuple(released[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels))
        return AutoencoderConfig(
            layout="latent-diffusion",
            image_channels=released["encoder.conv_in.weight"].shape[1],
            latent_channels=released["post_quant_conv.weight"].shape[0],
            channels=widths,
            res_blocks=(blocks,) * levels,
        )
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"these weights are not a latent-diffusion autoencoder: {error}") from None
